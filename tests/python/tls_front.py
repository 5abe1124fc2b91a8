"""Speaks TLS in front of a plain server: tls_front.py CERT KEY ADDRESS TARGET_PORT

Prints the port that it has at ADDRESS. Ends when its standard input does.
"""

import os
import socket
import ssl
import sys
import threading


def pump(source, sink):
    try:
        while chunk := source.recv(65536):
            sink.sendall(chunk)
    except OSError:
        pass
    finally:
        try:
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def serve(plain, context, port):
    try:
        client = context.wrap_socket(plain, server_side=True)
    except (OSError, ssl.SSLError):
        # The client did not like the certificate.
        plain.close()
        return
    with client, socket.create_connection(("127.0.0.1", port)) as server:
        back = threading.Thread(target=pump, args=(server, client), daemon=True)
        threading.Thread(target=pump, args=(client, server), daemon=True).start()
        back.start()
        back.join()


def main():
    cert, key, address, port = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    listener = socket.create_server((address, 0))
    print(listener.getsockname()[1], flush=True)

    def end_with_input():
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=end_with_input, daemon=True).start()
    while True:
        plain, _ = listener.accept()
        threading.Thread(target=serve, args=(plain, context, int(port)), daemon=True).start()


if __name__ == "__main__":
    main()
