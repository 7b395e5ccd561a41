"""Options that several commands share, as dataclasses whose fields become parameters of a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from pretrain.errors import InputError

if TYPE_CHECKING:
    from vidtrack.tracker import Tracker


@dataclass
class TrackerOptions:
    """How a tracker carries labels, and where it computes."""

    quality: Annotated[
        str | None, typer.Option(help="fast, default or best: settings, never other weights. [default]")
    ] = None
    preset: Annotated[
        str | None, typer.Option(help="crw, dino or vfs: carry labels as that paper's code does.")
    ] = None
    size: Annotated[
        str | None, typer.Option(help="Short side for the embeddings in pixels, or native. [640]")
    ] = None
    context: Annotated[
        str | None,
        typer.Option(help="Previous frames attended to: 7 for the last seven, or distances. [1,3,6]"),
    ] = None
    radius: Annotated[
        int | None, typer.Option(help="Half side of the search window in cells of 8 pixels. [16]")
    ] = None
    reach: Annotated[
        int | None, typer.Option(help="Cells around each object that are asked, plus its motion. [5]")
    ] = None
    topk: Annotated[int | None, typer.Option(help="Pointers per cell. [4]")] = None
    temperature: Annotated[
        float | None, typer.Option(help="Temperature of the softmax over them. [0.05]")
    ] = None
    bijective: Annotated[
        float | None,
        typer.Option(help="How much a pointer of a mask yields to cells that match better, 0 to 1. [0.25]"),
    ] = None
    annotated: Annotated[
        float | None,
        typer.Option(help="How much a mask's pointer to annotated frames is preferred, as a cosine. [0.012]"),
    ] = None
    drop_entering: Annotated[
        bool | None, typer.Option(help="What comes in at the edge away from a mask is none of it. [on]")
    ] = None
    refine: Annotated[bool | None, typer.Option(help="Snap masks to the frame's edges. [on]")] = None
    precision: Annotated[
        str,
        typer.Option(
            help="auto, bfloat16, float32, or int8 (vidtrack's own trackers): what networks compute in."
        ),
    ] = "auto"
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto"
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="CPU threads; the default is torch's choice.")
    ] = None

    def load(self, tracker: str, **settings: Any) -> Tracker:
        """The tracker with these options; `settings` are stronger.

        Raises:
            InputError: see `vidtrack.load`; or a size that is no number.
        """
        from vidtrack.propagate.settings import Propagation
        from vidtrack.tracker import load

        names = Propagation.model_fields.keys() & vars(self).keys() - {"preset"}
        chosen = {name: value for name in names if (value := getattr(self, name)) is not None}
        if "size" in chosen:
            chosen["size"] = _working_side(chosen["size"])
        return load(
            tracker,
            device=self.device,
            threads=self.threads,
            precision=self.precision,  # type: ignore[arg-type]
            quality=self.quality,
            preset=self.preset,
            **{**chosen, **settings},
        )


def with_options(kind: type[Any], leave_out: tuple[str, ...] = ()) -> Callable[..., Callable[..., None]]:
    """Decorator: the fields of dataclass `kind` become parameters of a command, which gets them as `options`.

    Args:
        kind: its fields have defaults and are annotated as Typer wants them.
        leave_out: fields that the command does without, or has a parameter of its own for.
    """

    def wrap(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(kind, include_extras=True)
        own = [
            p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "options"
        ]
        names = [field.name for field in fields(kind) if field.name not in leave_out]
        defaults = {field.name: field.default for field in fields(kind)}
        assert MISSING not in defaults.values()
        shared = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=hints[name]
            )
            for name in names
        ]
        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]

        @wraps(command)
        def called(**given: Any) -> None:
            chosen = kind(**{name: given.pop(name) for name in names})
            command(**given, options=chosen)

        called.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        called.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *shared)}
        return called

    return wrap


def _working_side(text: str) -> int | str:
    if text == "native":
        return text
    if not (text.isascii() and text.isdecimal()):
        raise InputError(f"--size {text}: give a number of pixels or native.")
    return int(text)
