"""Messages off a socket: whole, or dropped a part at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from rewind.wire.envelope import FRAMES_MAX, refuse_frames
from rewind.wire.messages import TooManyFrames, drop_frames, receive_routed

NOW = int(zmq.DONTWAIT)


@pytest.fixture
def router_and_dealer() -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.bind("inproc://messages")
        with context.socket(zmq.DEALER) as dealer:
            dealer.connect("inproc://messages")
            yield router, dealer


def test_a_message_of_as_many_frames_as_allowed_is_received(
    router_and_dealer: tuple[zmq.Socket[bytes], zmq.Socket[bytes]],
) -> None:
    router, dealer = router_and_dealer
    for count in (1, 2, FRAMES_MAX):
        dealer.send_multipart([b"%d" % n for n in range(count)])
        assert receive_routed(router.recv)[0][1:] == [b"%d" % n for n in range(count)]
    with pytest.raises(zmq.Again):
        receive_routed(router.recv, NOW)


def test_the_rest_of_a_message_with_too_many_frames_is_dropped_a_part_at_a_time(
    router_and_dealer: tuple[zmq.Socket[bytes], zmq.Socket[bytes]],
) -> None:
    router, dealer = router_and_dealer
    for dropped in (1, 2, 10, 11):  # how many frames are too many
        dealer.send_multipart([b""] * (FRAMES_MAX + dropped))
        dealer.send_multipart([b"the next message"])
        with pytest.raises(TooManyFrames) as caught:
            receive_routed(router.recv)
        assert len(caught.value.frames) == 1 + FRAMES_MAX
        drops = 1
        while drop_frames(router.recv, NOW, 5):
            drops += 1
        assert drops == 1 + (dropped - 1) // 5
        assert receive_routed(router.recv)[0][1:] == [b"the next message"]


@pytest.mark.parametrize("command", [b"READ", b"QUERY", b"FROB"])
def test_too_many_frames_are_refused_in_the_dialect_of_the_command(command: bytes) -> None:
    frames = [b"peer", b"", command, b"rid", *[b"\x80"] * FRAMES_MAX]
    refused = refuse_frames(frames)
    assert refused.body.code == "too_large" and refused.route == [b"peer", b""]
    assert refused.request_id == (b"rid" if command == b"READ" else b"")
