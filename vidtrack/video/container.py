"""Opening a video file: what can't be a video is refused in one sentence; what its header says of it."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from pretrain.errors import InputError
from pretrain.limits import max_pixels, require_pixels
from vidtrack.video.frame import DEFAULT_RATE
from vidtrack.video.structure import gif_is_short

# Demuxers that FFmpeg has for text, and for lists that make it open other files (without end, if they want).
NOT_VIDEO = {"tty", "concat", "hls", "dash", "imf", "ffmetadata"}
# Where files are found by their names; a file that is named is opened whatever it is called.
VIDEO_SUFFIXES = {
    *(".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".gif", ".mpg", ".mpeg", ".wmv", ".ts"),
    *(".mts", ".m2ts", ".flv", ".3gp", ".ogv", ".mxf", ".vob"),
}
_FORMATS = ",".join(sorted(av.formats_available - NOT_VIDEO))
_BLOCKS = 2**22  # pixels by which decoders may enlarge a picture, to whole blocks
_MAX_RATE = 480  # containers that don't know their rate tell the time base instead: 1000, 90000, ...


def reason(error: BaseException) -> str:
    """What a library says went wrong, in its words, without its error number."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__).rstrip(".")


def open_video(path: Path) -> tuple[InputContainer, VideoStream]:
    """Open a file and choose its video stream; the caller closes the container.

    Raises:
        InputError: missing, unreadable, empty, no file, no video, a single picture, larger than is allowed,
            or no video stream inside.
    """
    # os.path, since a Path raises for names that are too long.
    if not os.path.exists(path):
        raise InputError(f"{path} does not exist: check the name of the video or folder of frames.")
    if not os.path.isfile(path):  # reading a pipe would wait, perhaps for ever
        raise InputError(f"{path} is a pipe or a device: give a video file, or a folder of frames.")
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError(f"{path} is an empty file: copy or download the video again.")
    except OSError as error:
        raise InputError(f"{path} can't be read ({reason(error)}): check its permissions.") from error
    try:
        # "file:" keeps FFmpeg from reading a name such as "take:1.mp4" as a protocol.
        container = av.open(
            f"file:{path}",
            options=decoder_options(),
            container_options={"format_whitelist": _FORMATS},
            metadata_errors="replace",
        )
    except av.error.ArgumentError as error:  # the format is not in the list
        raise InputError(
            f"{path} is text or a list, not a video: give a video, or a folder of frames."
        ) from error
    except Exception as error:  # whatever a broken header makes PyAV raise
        raise InputError(
            f"{path} can't be opened as a video ({reason(error)}): it is none, or its header is broken."
        ) from error
    try:
        return container, choose_stream(container, path)
    except BaseException:
        container.close()
        raise


def choose_stream(container: InputContainer, path: Path | str) -> VideoStream:
    """The video stream of an opened source; `path` is what the user calls it.

    Raises:
        InputError: a single picture, no stream that can be decoded, or one that declares too many pixels.
    """
    names = set(container.format.name.split(","))
    if names & {"image2"} or any(name.endswith("_pipe") for name in names):
        raise InputError(f"{path} is a single picture: give a video, or a folder of frames.")
    # The cover picture of a song is a video stream to FFmpeg.
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise InputError(f"{path} holds no video stream: give a file with pictures.")
    readable = [s for s in streams if s.codec_context is not None]
    if not readable:
        raise InputError(f"{path} is of a codec that can't be decoded here: convert it to H.264 first.")
    codec = readable[0].codec_context
    require_pixels(codec.width, codec.height, path)
    codec.options = decoder_options()
    codec.thread_type = "NONE"  # where slices are decoded side by side, FFmpeg does not tell what it made up
    return readable[0]


def decoder_options() -> dict[str, str]:
    """Options that keep FFmpeg from taking memory for pictures larger than are allowed."""
    return {"max_pixels": str(min(max_pixels() + _BLOCKS, 2**31 - 1))}


def stream_start(stream: VideoStream) -> Fraction:
    """Seconds at which the stream starts on the container's clock; 0 when it doesn't say."""
    return Fraction(stream.start_time or 0) * (stream.time_base or 0)


def pixel_aspect(stream: VideoStream, rotation: int = 0) -> Fraction:
    """Width of a pixel in its heights, of pictures turned by `rotation` degrees; 1 where it isn't told."""
    told = stream.sample_aspect_ratio
    if not told or not Fraction(1, 8) <= told <= 8:  # some encoders write what can't be
        return Fraction(1)
    return 1 / Fraction(told) if rotation in (90, 270) else Fraction(told)


def stream_duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Seconds that the stream lasts by its header, None when unknown.

    Matroska tells that of the whole file, which may be that of the sound, and of the stream in a tag. FFmpeg
    writes there when the stream ends on the file's clock; mkvmerge, which writes statistics, how long it is.
    """
    whole = Fraction(container.duration, av.time_base) if container.duration else None
    if "matroska" in container.format.name:
        lengths = any(key.upper().startswith("_STATISTICS_TAGS") for key in stream.metadata)
        before = Fraction(0) if lengths else max(Fraction(0), stream_start(stream))
        tag = next((v for k, v in stream.metadata.items() if k.upper().startswith("DURATION")), "")
        try:
            hours, minutes, seconds = tag.split(":")
            told = (int(hours) * 60 + int(minutes)) * 60 + Fraction(seconds.strip())
            return min(told, whole or told) - before  # a tag may be left over from a longer file
        except ValueError:
            return whole - before if whole and len(container.streams) == 1 else None
    return Fraction(stream.duration) * stream.time_base if stream.duration and stream.time_base else whole


def average_rate(stream: VideoStream, duration: Fraction | None) -> Fraction:
    """Frames per second, exact; 25 where the file tells nothing that can be."""
    counted = Fraction(stream.frames) / duration if stream.frames and duration else None
    for rate in (stream.average_rate, counted, stream.base_rate):
        if rate and 0 < rate <= _MAX_RATE:
            return Fraction(rate)
    return DEFAULT_RATE


def frame_count(stream: VideoStream, duration: Fraction | None, rate: Fraction) -> int | None:
    """Number of frames by the container's word, else by duration and rate, else None: an estimate."""
    if stream.frames:
        return int(stream.frames)
    return max(1, round(duration * rate)) if duration else None


def ends_early(
    container: InputContainer,
    stream: VideoStream,
    packets: int,
    empty: int,
    torn: bool,
    end: Fraction,
    step: Fraction,
) -> bool:
    """Whether a file that was read to its end lacks frames that its header promises.

    Args:
        container: the file.
        stream: its video stream.
        packets: number of packets that were read.
        empty: number of those that only say that the picture stays.
        torn: reading them met an error, or the structure of the file is broken.
        end: seconds at which the last frame ended.
        step: seconds per frame.
    """
    if container.format.name == "gif":  # tells nothing in advance, but its blocks can be counted
        return gif_is_short(Path(container.name.removeprefix("file:")), packets)
    if container.format.name == "avi":  # all that it has is in its index
        return packets + empty < stream.frames
    if stream.frames and (torn or packets >= stream.frames):
        return packets < stream.frames
    duration = stream_duration(container, stream)
    # Edit lists and encoders' delays shift the end by a frame or two.
    return duration is not None and end + max(3 * step, duration / 50) < duration
