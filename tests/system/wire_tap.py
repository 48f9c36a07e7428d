"""Run inside the lab's switch: searches every frame between two of its ports for the marker, whatever the frame is, counts
Sluice's own and, if asked to, sends some of these again, as they were and altered. Prints what it saw as JSON when its standard input ends."""
import json
import select
import socket
import sys

ETH_P_ALL = 3
PACKET_OUTGOING = 4
UDP_PORT = 7401
PREFIX = 42  # Ethernet, IPv4, UDP
SEQUENCE = PREFIX + 16
DATA, ACK = 1, 2


def open_port(name):
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
    port.bind((name, 0))
    return port


def is_sluice(frame):
    return (len(frame) > PREFIX + 40 and frame[12:14] == b"\x08\x00" and frame[23] == socket.IPPROTO_UDP
            and int.from_bytes(frame[36:38], "big") == UDP_PORT)


def forgeries(frame):
    """The frame again; with one bit of its contents flipped; with another number, as if it were new."""
    contents = bytearray(frame)
    contents[-20] ^= 0x10
    number = bytearray(frame)
    number[SEQUENCE + 2] ^= 0x40
    return [frame, bytes(contents), bytes(number)]


def main(marker, *options):
    inject = "inject" in options
    sides = [open_port("mig-h1"), open_port("mig-h2")]
    seen = {"data": 0, "acks": 0, "marked": 0, "injected": 0}
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([sys.stdin, *sides], [], [])
        if sys.stdin in ready:
            break
        for side in ready:
            frame, address = side.recvfrom(65536)
            if address[2] == PACKET_OUTGOING:
                continue
            seen["marked"] += marker.encode() in frame
            if not is_sluice(frame):
                continue
            kind = frame[PREFIX + 1]
            seen["data"] += kind == DATA
            seen["acks"] += kind == ACK
            if inject and (kind == ACK or seen["data"] % 20 == 0):
                other = sides[1 - sides.index(side)]
                for forged in forgeries(frame):
                    other.send(forged)
                    seen["injected"] += 1
    print(json.dumps(seen), flush=True)


main(*sys.argv[1:])
