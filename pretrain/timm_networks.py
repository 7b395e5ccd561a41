"""Networks of timm (Wightman, github.com/huggingface/pytorch-image-models), an optional extra: by name, with
random weights, with timm's own, which are fetched once, or with those of a checkpoint.
"""

from __future__ import annotations

import difflib
import os
import re
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import getproxies

from torch import Tensor, nn

from pretrain.checkpoint import read_checkpoint, require_finite
from pretrain.errors import InputError

PREFIX = re.compile(r"(module|backbone|model|encoder|base_encoder|encoder_q|trunk)\.")
HUB = "huggingface.co"


def timm_module(what: str = "transformers need") -> Any:
    """timm itself.

    Args:
        what: needs it, for the error.

    Raises:
        InputError: it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise InputError(f"{what} timm: pip install 'vidtrack[timm]'.") from error
    return timm


def split_path(spec: str, rest: str) -> tuple[str, Path | None]:
    """`NAME` or `NAME@PATH` as the name of a network and the path of its checkpoint.

    Args:
        spec: what the user typed, for the error.
        rest: of it, what follows "timm:".

    Raises:
        InputError: there is no such file.
    """
    name, mark, path = rest.partition("@")
    if mark and not Path(path).is_file():
        raise InputError(f"{spec}: there is no checkpoint {path!r}; give timm:NAME or timm:NAME@PATH.")
    return name, Path(path) if mark else None


def require_network(spec: str, name: str) -> None:
    """Check that timm knows a network.

    Args:
        spec: what the user typed, for the error.
        name: of the network, with or without a tag.

    Raises:
        InputError: it doesn't, or is not installed.
    """
    timm = timm_module(f"{spec} needs")
    if not name or not timm.is_model(name):
        near = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() names all."
        raise InputError(f"{spec}: timm {timm.__version__} knows no network {name!r}; {hint}")


def create(
    name: str, pretrained: bool, path: Path | None, choices: Sequence[Mapping[str, Any]]
) -> tuple[nn.Module, int]:
    """A network without its classifier, and which of the choices it was made with.

    Args:
        name: as in `timm.list_models()`, with or without a tag.
        pretrained: load timm's own weights, unless there is a path.
        path: a checkpoint by timm's names or its authors'; wrappers (`state_dict`, `teacher` ...) and
            prefixes (`module. backbone.` ...) are removed.
        choices: options of `timm.create_model`; the first set that the network's family has is taken.

    Raises:
        InputError: timm is missing, the weights can't be had or don't fit, or no choice makes the network.
    """
    timm = timm_module(f"timm:{name} needs")
    state = None if path is None else read_checkpoint(path)[0]
    for number, options in enumerate(choices):
        try:
            with _offline_where_unreachable(pretrained and path is None):
                model = timm.create_model(
                    name, pretrained=pretrained and path is None, num_classes=0, **options
                )
        except TypeError:  # an option that this family doesn't have
            continue
        except Exception as error:  # timm, its hub client and its transport have errors of their own
            if path is not None or not pretrained:
                raise InputError(f"timm:{name} can't be built ({first_line(error)}).") from error
            raise InputError(
                f"timm:{name}: its weights can't be fetched ({first_line(error)}); "
                f"download them elsewhere and give timm:{name}@PATH."
            ) from error
        if state is not None and path is not None:
            _load(model, name, state, path)
        return model, number
    raise InputError(f"timm:{name} can't be built without its classifier.")


@contextmanager
def _offline_where_unreachable(fetching: bool) -> Iterator[None]:
    """Where the hub's name can't be resolved its client is told so: it asks for a minute otherwise."""
    hub: Any = sys.modules.get("huggingface_hub.constants")  # timm's client
    if not fetching or hub is None or getproxies() or os.environ.get("HF_ENDPOINT") or _known(HUB):
        yield
        return
    before = hub.HF_HUB_OFFLINE
    hub.HF_HUB_OFFLINE = True  # weights that were fetched before are found all the same
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = before


def _known(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, 443))
    except OSError:
        return False


def _load(model: nn.Module, name: str, state: dict[str, Tensor], path: Path) -> None:
    """Load the tensors of a checkpoint; every tensor of the network must be in it."""
    own = model.state_dict()
    state = _strip(state, own)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    try:
        if convert is not None:  # the authors' names to timm's; position embeddings to the model's grid
            state = convert(state, model)
        missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
        wrong = [k for k in own if k in state and state[k].shape != own[k].shape]
    except (KeyError, RuntimeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{path} doesn't fit {name} ({first_line(error)}).") from error
    if missing or wrong:
        raise InputError(
            f"{path} doesn't fit {name}: {len(missing)} tensors missing, {len(wrong)} of another shape "
            f"(first: {(missing + wrong)[0]})."
        )
    kept = {key: state[key] for key in own if key in state}
    require_finite(kept, path)
    model.load_state_dict(kept, strict=False)


def _strip(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove prefixes that a good part of the tensors has: heads and second encoders may lack it."""
    while True:
        counted = Counter(found[0] for key in state if (found := PREFIX.match(key)))
        prefix, count = counted.most_common(1)[0] if counted else ("", 0)
        if 3 * count < len(state) or not count or any(key.startswith(prefix) for key in own):
            return state
        state = {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}


def first_line(error: BaseException) -> str:
    """What an error of a library says, short enough for a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
