"""The server as a program."""

import structlog

from runfold_server.app.application import listening_socket, serve
from runfold_server.core.config import ServerConfig
from runfold_stack.config.listening import can_not_listen
from runfold_stack.config.programs import DEFAULT_PORT
from runfold_stack.config.services import Services
from runfold_stack.config.settings import Settings


def run_server(settings: Settings, services: Services) -> None:
    """Serve the API until SIGTERM."""
    config = ServerConfig(
        kafka=services.kafka,
        dsn=services.postgres,
        namespace=settings.namespace,
        host=settings.host,
        port=DEFAULT_PORT if settings.port is None else settings.port,
        workers=settings.server_workers,
        read_wait=settings.read_wait,
        artifact_check_period=settings.artifact_check_days * 86_400,
        search_bytes=settings.search_mb * 1024 * 1024,
        allowed_hosts=settings.allowed_host_list,
        allowed_origins=settings.allowed_origin_list,
        trusted_proxies=settings.trusted_proxy_list,
        webhook_schemes=tuple(settings.webhook_schemes.split(",")),
        s3=services.s3,
    )
    try:
        listener = listening_socket(config.host, config.port)
    except OSError as error:
        raise can_not_listen("the server", config.host, config.port, error) from None
    structlog.get_logger().info("serving", url=f"http://{config.host}:{listener.getsockname()[1]}")
    serve(config, listener)
