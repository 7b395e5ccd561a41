"""What packets give no picture: hidden, not coded, or of a structure that no decoder takes."""

from types import SimpleNamespace

import pytest

from vidtrack.video import entries


def test_hidden_and_not_coded_pictures_are_not_counted() -> None:
    """The first bytes of VP9 frames by the specification, and what libvpx calls a superframe."""

    class Packet(bytes):
        @property
        def size(self) -> int:
            return len(self)

    def gives_none(data: bytes, codec: str) -> bool:
        stream = SimpleNamespace(codec_context=SimpleNamespace(name=codec, extradata=None))
        return entries._gives_none(Packet(data), stream)

    assert not gives_none(bytes([0b10000010, 0x49]), "vp9")  # key frame, shown
    assert gives_none(bytes([0b10000100, 0x49]), "vp9")  # not shown
    assert not gives_none(bytes([0b10000110, 0x49]), "vp9")  # shown
    assert not gives_none(bytes([0b10001000, 0x49]), "vp9")  # shows an earlier one
    assert gives_none(bytes([0b10110010, 0x49]), "vp9")  # profile 3: one bit more, not shown
    assert not gives_none(bytes([0b10110011, 0x49]), "vp9")
    assert not gives_none(bytes([0b10000100, 0x49, 0xC0]), "vp9")  # superframe
    assert gives_none(b"\x00\x00\x01\xb6\x50", "mpeg4")
    assert not gives_none(b"\x00\x00\x01\xb6" + bytes(30), "mpeg4")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x00\x00\x00\x02\x65\x00", True),
        (b"\x00\x00\x00\x02\x06\x00\x00\x00\x00\x01\x41", True),  # a message, then a slice
        (b"\x00\x00\x00\x02\x06\x00", False),  # a message only
        (b"\x00\x00\x00\x03\x65\x00", False),  # shorter than it says
        (b"\x00\x00\x00\x00\x65\x00", False),
        (bytes(12), False),
        (b"\x00\x00\x00\x02\xe5\x00", False),  # the forbidden bit
    ],
)
def test_packets_of_broken_structure(data, expected):
    assert entries._holds_slice(memoryview(data), 4, "h264") == expected
