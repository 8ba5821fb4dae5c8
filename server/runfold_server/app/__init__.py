"""The ASGI application: its routes, the services behind them, health."""
