"""``forwarder.py HOST PORT``: what comes to HOST:PORT goes to the same port of loopback."""

from __future__ import annotations

import asyncio
import contextlib
import sys


async def main(host: str, port: int) -> None:
    async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while content := await source.read(1 << 16):
                sink.write(content)
                await sink.drain()
        with contextlib.suppress(OSError):
            sink.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            near_reader, near_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(carry(reader, near_writer), carry(near_reader, writer))

    server = await asyncio.start_server(accept, host, port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
