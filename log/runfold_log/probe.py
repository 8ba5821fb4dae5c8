"""One question to one broker, for who waits until it is up."""

import asyncio

from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError, SaslAuthenticationFailed
from aiokafka.protocol.metadata import MetadataRequest

from .cluster import KafkaSecurity
from .errors import LogUnavailable


class LoginDenied(LogUnavailable):
    """The broker answers but does not know the user or the password."""


async def names_a_broker(host: str, port: int, security: KafkaSecurity, *, timeout: float) -> bool:
    """Whether the broker lets this user in and knows a member of its cluster, such as itself.

    LoginDenied if it does not let the user in, LogUnavailable if it does not answer within `timeout` seconds.
    """
    try:
        async with asyncio.timeout(timeout):
            connection = await create_conn(host, port, client_id="runfold-ready", **security.options())
            try:
                return bool((await connection.send(MetadataRequest([]))).brokers)
            finally:
                connection.close()
    except SaslAuthenticationFailed as error:
        raise LoginDenied(f"Kafka at {host}:{port}: {error}") from error
    except (OSError, TimeoutError, EOFError, KafkaError) as error:
        raise LogUnavailable(f"Kafka at {host}:{port} does not answer: {error or 'no answer in time'}") from error
