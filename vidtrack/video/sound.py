"""Carrying the sound of one file into another: copied where the container takes it, else made AAC."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from vidtrack.video.container import reason, stream_start

# What players expect in each container; FFmpeg would put in more.
_COPIED = {
    "mp4": {"aac", "mp3", "mp3float", "ac3", "eac3", "alac", "opus", "libopus"},
    "mov": {"aac", "mp3", "mp3float", "alac"},
}


class Sound:
    """The sound of `path`, added to `output` piece by piece while its pictures are written.

    Sound is no reason to lose a video: what goes wrong with it ends the sound and is told in `warnings`.

    Args:
        path: a file; without a stream of sound nothing is added.
        output: the mp4 or mov file in the making; its header must not be written yet.
        origin: time of the first picture written, in seconds since the start of the pictures in `path`; what
            sounds before it is left out, so that sound and picture stay together.

    Attributes:
        warnings: sentences for the user.
    """

    def __init__(self, path: Path, output: OutputContainer, origin: Fraction) -> None:
        self.warnings: list[str] = []
        self._path, self._output = path, output
        self._source: InputContainer | None = None
        self._encoder: AudioStream | None = None  # where the sound can't be copied
        self._pending: Iterator[tuple[Fraction, list[Packet]]] = iter(())
        self._next: tuple[Fraction, list[Packet]] | None = None
        try:
            self._source = av.open(f"file:{path}", metadata_errors="replace")
            self._start(self._source, origin)
        except Exception as error:  # whatever a broken file makes PyAV raise
            self._give_up(error)

    def _start(self, source: InputContainer, origin: Fraction) -> None:
        streams = [s for s in source.streams.audio if s.codec_context is not None]
        if not streams:
            return
        pictures = source.streams.video
        shift = origin + (stream_start(pictures[0]) if pictures else Fraction(0))
        if streams[0].codec_context.name in _COPIED[self._output.format.name]:
            copy = self._output.add_stream_from_template(streams[0])
            self._pending = self._copied(source, streams[0], copy, shift)
        else:
            rate = min(streams[0].codec_context.sample_rate, 48000)
            self._encoder = self._output.add_stream("aac", rate=rate)
            self._pending = self._encoded(source, streams[0], self._encoder, shift)
        self._advance()

    def write_until(self, time: Fraction) -> None:
        """Add what sounds before `time` seconds after the first picture."""
        while self._next is not None and self._next[0] < time:
            packets = self._next[1]
            try:
                for packet in packets:
                    self._output.mux(packet)
            except Exception as error:
                self._give_up(error)
                return
            self._advance()

    def finish(self, time: Fraction) -> None:
        """Add what sounds before `time` seconds, and what the encoder holds of it."""
        self.write_until(time)
        if self._encoder is not None:
            try:
                self._output.mux(self._encoder.encode(None))
            except Exception as error:
                self._give_up(error)

    def close(self) -> None:
        """Close the source."""
        if self._source is not None:
            self._source.close()

    def _advance(self) -> None:
        try:
            self._next = next(self._pending, None)
        except Exception as error:  # damaged sound
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._next = None
        self.warnings.append(f"the sound of {self._path} was not, or not wholly, kept: {reason(error)}.")

    def _copied(
        self, source: InputContainer, stream: AudioStream, copy: AudioStream, shift: Fraction
    ) -> Iterator[tuple[Fraction, list[Packet]]]:
        base = stream.time_base or Fraction(1, stream.codec_context.sample_rate)
        offset = round(shift / base)
        for packet in source.demux(stream):
            if not packet.size or packet.pts is None:
                continue
            start = packet.pts - offset
            if start < 0:
                continue  # before the first picture
            packet.pts = start
            packet.dts = start if packet.dts is None else packet.dts - offset
            packet.stream = copy
            yield start * base, [packet]

    def _encoded(
        self, source: InputContainer, stream: AudioStream, encoder: AudioStream, shift: Fraction
    ) -> Iterator[tuple[Fraction, list[Packet]]]:
        context = encoder.codec_context
        # Pieces as short as AAC's own, whatever the source's are, so that the cuts are as fine.
        resampler = av.AudioResampler(context.format, context.layout, context.sample_rate, frame_size=1024)
        for frame in chain(source.decode(stream), [None]):
            for piece in resampler.resample(frame):
                if piece.pts is None or not piece.time_base or piece.pts * piece.time_base < shift:
                    continue
                time = piece.pts * piece.time_base - shift
                piece.pts -= round(shift / piece.time_base)
                yield time, encoder.encode(piece)
