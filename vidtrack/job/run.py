"""One run of `vidtrack propagate`, from annotations to a complete folder of results."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrain.errors import InputError
from vidtrack.ahead import Embed
from vidtrack.benchmark.environment import peak_memory_mb, versions
from vidtrack.cache import EmbeddingCache, default_folder, embedding_key, video_hash
from vidtrack.files import drop, require_free, require_outside, work_folder, write_json
from vidtrack.geometry import working_size
from vidtrack.given import check_frames, reaches
from vidtrack.job.annotate import Annotations
from vidtrack.job.expect import (
    Meter,
    backward_lengths,
    laid_aside_bytes,
    memory_bound_mb,
    require_room,
    stated,
)
from vidtrack.job.live import LiveSource
from vidtrack.job.manifest import SCHEMA, Manifest, channels, forgotten, make_manifest, spans
from vidtrack.job.outputs import OUTPUTS, About, check_saves, make_output
from vidtrack.job.plan import Plan, Progress, Tell
from vidtrack.job.report import describe_labels, lost_sentences, what
from vidtrack.job.reuse import Earlier, Reuse, others
from vidtrack.job.trust import Trust
from vidtrack.job.work import begin, complete, worth_keeping
from vidtrack.job.writer import ResultWriter
from vidtrack.labels import Boxes, Keypoints, Masks
from vidtrack.model.colorizer import VideoColorizer
from vidtrack.session import Labels
from vidtrack.tolerance import describe_damage
from vidtrack.tracker import Tracker
from vidtrack.video import VideoInfo, probe
from vidtrack.video.container import reason


def propagate_video(
    video: Path,
    annotations: Annotations | Mapping[int, Labels],
    tracker: Tracker,
    out: Path,
    plan: Plan | None = None,
    *,
    progress: Progress | None = None,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Carry annotations through a video and write labels, overlay and report.

    Work happens in `OUT.partial/`, which becomes `out` when everything is written: `out` is absent or
    complete. A run that was stopped leaves `OUT.partial/` if stretches between annotations were finished; the
    same call then computes only the others. So it is with annotations added to a complete run
    (`plan.overwrite`): only stretches whose annotations before or after them changed are computed. Either way
    the result is that of one run, bit for bit, if video, weights, settings and versions are the same.

    Args:
        video: video file or folder of frames.
        annotations: labels by frame number, all of one kind.
        tracker: see `vidtrack.load`.
        out: folder of the results.
        plan: see `Plan`.
        progress: called with the number of frames done and of all; a frame that is passed in both directions
            counts twice.
        tell: called with lines for the terminal: what will be done, and how long it will take.

    Returns:
        The content of `report.json`.

    Raises:
        InputError: anything about video, annotations or output that the user has to change.
        KeyboardInterrupt: with a sentence that says how to go on.
    """
    run = _Run(_annotations(annotations), tracker, out, plan or Plan(), probe(video), progress, tell)
    require_outside(run.out, (video, *others(run.out, run.given.files.values())))
    with work_folder(run.out, run.plan.overwrite) as partial:
        manifest = run.manifest(_hash(video))
        stopped = Earlier.of_stopped(partial)
        replaced = Earlier.of_results(run.out)
        reuse = Reuse((stopped, replaced), manifest, run.about)
        if replaced is not None:
            for line in forgotten(run.out.name, replaced.manifest, manifest):
                run.tell(f"Warning: {line}")
        try:
            run.announce(video, reuse)
            if stopped is not None and next(reuse.from_folder(partial), None) is None:
                run.tell(f"nothing in {partial.name} is of use: no stretch between annotations was finished")
            meter = run.meter(reuse)
            options: dict[str, Any] = {
                "embed": run.embed(video),
                "passed": meter.backward,
                "known": reuse.known,
                "reused": frozenset(reuse.runs),
            }
            return run.carry(video, partial, manifest, reuse, meter, options)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(run.stopped(partial, manifest)) from stop
        except OSError as error:
            run.stopped(partial, manifest)
            raise _unwritten(run.out, error) from error
        except InputError:
            run.stopped(partial, manifest)
            if partial.exists():
                run.tell(f"what is done is kept in {partial.name}, to go on from")
            raise
        except BaseException:
            run.stopped(partial, manifest)
            raise


def propagate_live(
    source: LiveSource,
    annotations: Annotations | Mapping[int, Labels],
    tracker: Tracker,
    out: Path,
    plan: Plan | None = None,
    *,
    progress: Progress | None = None,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Carry the annotation of the first frame through a camera or stream until it ends, or Ctrl-C is pressed.

    Arguments, results and errors as of `propagate_video`; `report["live"]` has latencies in milliseconds and
    the number of dropped frames.
    """
    plan = plan or Plan()
    given = _annotations(annotations)
    if plan.direction != "forward" or plan.start or set(given.labels) != {0}:
        raise InputError("a live source goes forward from its first frame: annotate frame 0 only.")
    run = _Run(given, tracker, out, plan, source.info, progress, tell)
    require_outside(run.out, others(run.out, given.files.values()))
    with work_folder(run.out, plan.overwrite) as partial, source.ended_by_interrupt():
        manifest = run.manifest(None)
        reuse = Reuse((), manifest, run.about)
        try:
            run.announce(source.info.shown, reuse)
            return run.carry(source, partial, manifest, reuse, run.meter(reuse), {})
        except OSError as error:
            drop(partial)
            raise _unwritten(run.out, error) from error
        except BaseException:
            drop(partial)
            raise


def _hash(video: Path) -> str:
    try:
        return video_hash(video)
    except OSError as error:
        raise InputError(f"{video} can't be read any more ({reason(error)}): look for it.") from error


def _unwritten(out: Path, error: OSError) -> InputError:
    """Reading has errors of its own: what the system refuses in a run is writing."""
    return InputError(
        f"{out} can't be written ({reason(error)}): make room or choose another --out, and run again."
    )


def _annotations(given: Annotations | Mapping[int, Labels]) -> Annotations:
    if isinstance(given, Annotations):
        return given
    if not given:
        raise InputError("nothing is annotated: give the labels of at least one frame.")
    return Annotations(dict(sorted(given.items())), {})


NOTICED = 1e6  # bytes


class _Run:
    """What is given and what follows from it; the methods are the steps of a run."""

    def __init__(
        self,
        given: Annotations,
        tracker: Tracker,
        out: Path,
        plan: Plan,
        info: VideoInfo,
        progress: Progress | None,
        tell: Tell | None,
    ) -> None:
        check_frames(given.labels, plan.direction, plan.start, plan.end)  # before anything is told or written
        self.given, self.tracker, self.plan, self.info = given, tracker, plan, info
        self.out = require_free(out, plan.overwrite, folder=True).absolute()
        self.progress = progress
        self.tell: Tell = tell or (lambda line: None)
        size = (info.height, info.width)
        self.about = About(
            labels=given.labels,
            size=size,
            working=working_size(*size, tracker.settings.size),
            stride=tracker.embedder.stride if tracker.embedder else VideoColorizer.stride,
            rate=info.rate,
            saves=plan.saves,
            pixel_aspect=info.pixel_aspect,
        )
        check_saves(self.about.kind, plan.saves)
        stop = plan.end if info.frames is None else min(info.frames, plan.end or info.frames)
        self.frames = None if stop is None else max(0, stop - plan.start)
        self.cache: EmbeddingCache | None = None
        self.begun = False  # from then on `OUT.partial` is this run's

    def manifest(self, video: str | None) -> Manifest:
        """See `make_manifest`."""
        plan, labels = self.plan, self.given.labels
        soft = "npz" in plan.saves
        if soft and self.tracker.embedder is None:
            raise InputError("--save npz has probabilities, and --tracker copy makes none: leave it out.")
        return make_manifest(
            video, self.tracker, labels, plan.direction, plan.start, plan.end, soft, plan.on_error
        )

    def announce(self, source: Path | str, reuse: Reuse) -> None:
        """Tell what will be done, and refuse what there is no room for."""
        frames = "frames until it ends" if self.frames is None else f"{self.frames} frames"
        count = len(self.given.labels)
        self.tell(
            f"{source}: {frames} of {self.info.width} x {self.info.height}, {what(self.given.labels)}, "
            f"{self.plan.direction} from {count} annotated frame{'' if count == 1 else 's'}"
        )
        if self.frames is not None and count == self.frames > 1:
            self.tell(
                "Warning: every frame is annotated, so nothing is carried; of earlier results, give only the "
                "frames that were corrected."
            )
        lengths = self._backward_lengths(reuse)
        if lengths and self.tracker.embedder is not None:
            needed = laid_aside_bytes(self.about, lengths)
            require_room(needed)
            if needed > NOTICED:
                self.tell(f"the backward pass takes up to {needed / 1e6:.1f} MB of temporary files")
        if reuse.frames:
            where = " and ".join(sorted({run.folder.name for run in reuse.runs.values()}))
            self.tell(f"going on from {where}: {reuse.frames} frames between unchanged annotations are known")
        bound = self._memory_bound_mb()
        if bound is not None:
            self.tell(f"expected: {stated(bound)} of memory, however long the video is")
        self.tell(f"writing {self.out}")

    def _memory_bound_mb(self) -> float | None:
        points = self.about.kind is Keypoints
        context = max(self.tracker.settings.point_context) if points else None
        objects = len(channels(self.given.labels)) if self.about.kind in (Masks, Boxes) else 1
        return memory_bound_mb(self.tracker, self.about.size, objects, context, self.caching)

    def _backward_lengths(self, reuse: Reuse) -> list[int]:
        """Frames of each stretch through which labels will be carried backward."""
        if self.plan.direction == "forward":
            return []
        todo = [span for span in spans(sorted(self.given.labels), self.plan.start) if span not in reuse.runs]
        return backward_lengths(todo, self.plan.start)

    def meter(self, reuse: Reuse) -> Meter:
        """What counts the frames of this run."""
        total = self.frames
        if total is not None:
            total += sum(self._backward_lengths(reuse))
        return Meter(total, reuse.frames, self.progress, self.tell)

    @property
    def caching(self) -> bool:
        """Frames are embedded more than once: in two passes, or again when annotations are added."""
        again = self.plan.direction != "forward" or len(self.given.labels) > 1
        return bool(self.plan.cache_bytes) and again

    def embed(self, video: Path) -> Embed | None:
        """The embedder behind its cache.

        A single forward pass needs each embedding once, and of that only a part: it has no cache, None.
        """
        embedder = self.tracker.embedder
        if embedder is None or not self.caching:
            return None
        key = embedding_key(video, self.tracker)
        self.cache = EmbeddingCache(default_folder(), key, self.plan.cache_bytes)
        return self.cache.wrap(embedder, self.tracker.settings.size)

    def carry(
        self,
        source: Path | LiveSource,
        partial: Path,
        manifest: Manifest,
        reuse: Reuse,
        meter: Meter,
        options: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Compute and write all frames, and give the folder its name; returns the report."""
        plan, given, began, waiting, computed = self.plan, self.given.labels, time.perf_counter(), 0.0, 0
        options = {**options, "soft": manifest["soft"], "on_error": plan.on_error}
        with self.tracker.passes(source, given, plan.direction, plan.start, plan.end, **options) as passes:
            self.begun = True
            records = begin(partial, manifest, reuse.from_folder(partial), OUTPUTS[self.about.kind].kept)
            reuse.reload(partial)
            writer = ResultWriter(partial, make_output(partial, self.about), records, self.info, plan.overlay)
            try:
                for result in passes:
                    handed = time.perf_counter()
                    known = reuse.take_source()
                    if isinstance(source, LiveSource):
                        source.note()
                    writer.put(result, known)
                    waiting += time.perf_counter() - handed
                    new = known is None and result.labels is not None
                    carried = result.index not in given and reaches(given, plan.direction, result.index)
                    computed += new and carried
                    meter.result(computed=new)
                handed = time.perf_counter()
                told = writer.close()
                waiting += time.perf_counter() - handed
            except BaseException:
                writer.abort()
                raise
        told = [*told, *passes.warnings, *(self.cache.warnings if self.cache else [])]
        seconds = {**passes.seconds, "writing": writer.seconds, "waiting for writing": waiting}
        seconds["total"] = time.perf_counter() - began
        report = self._report(writer, manifest, seconds, told, computed)
        report["damage"] = describe_damage(writer.frames, plan.on_error, passes.damage)
        if isinstance(source, LiveSource):
            report["live"] = source.report()
        trust = Trust(writer.frames, given, plan.direction)
        report |= trust.describe()
        report["files"] = [*trust.draw(partial), *report["files"]]
        report["frames"] = writer.frames
        write_json(partial / "report.json", report)
        complete(partial, self.out)
        return report

    def _report(
        self,
        writer: ResultWriter,
        manifest: Manifest,
        seconds: Mapping[str, float],
        told: list[str],
        computed: int,
    ) -> dict[str, Any]:
        """The content of `report.json`, without the frames."""
        given, count = self.given, len(writer.frames)
        lost = lost_sentences(writer.frames, given.labels, self.plan.direction)
        hashes = manifest["annotations"]
        return {
            "schema": SCHEMA,
            "input": {
                "video": self.info.shown,
                "kind": self.info.kind,
                "start": self.plan.start,
                "end": self.plan.start + count,
            },
            "kind": self.about.kind.__name__.lower(),
            "direction": self.plan.direction,
            "annotations": {
                str(number): {"file": given.files.get(number), "labels_sha256": hashes[str(number)]}
                for number in given.labels
            },
            "frame_count": count,
            "computed_frames": computed,
            "width": self.info.width,
            "height": self.info.height,
            "rate": f"{self.info.rate.numerator}/{self.info.rate.denominator}",
            **describe_labels(given.labels),
            "files": [*writer.output.files(), *(["overlay.mp4"] if self.plan.overlay else []), "report.json"],
            "options": self.tracker.describe(),
            "weights": self.tracker.weights,
            "versions": versions(),
            "seconds": {stage.replace(" ", "_"): round(value, 3) for stage, value in seconds.items()},
            "frames_per_second": round(count / max(seconds["total"], 1e-9), 2),
            "peak_memory_mb": peak_memory_mb(),
            "warnings": [*given.warnings, *told, *lost],
            "manifest": manifest,
        }

    def stopped(self, partial: Path, manifest: Manifest) -> str:
        """Keep what would save the next run work, or nothing; returns how to go on."""
        worth = worth_keeping(partial, manifest) if self.begun else Earlier.of_stopped(partial) is not None
        if not worth:
            drop(partial)
            return "run the same command again to start over."
        return f"run the same command again to go on; what is done is kept in {partial.name}."
