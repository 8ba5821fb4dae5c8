"""The ASGI application: routes, the services behind them, health."""
