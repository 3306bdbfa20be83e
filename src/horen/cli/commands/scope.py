"""The command that trains what tells who and what a prompt asks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from horen.cli.options import AsJson
from horen.cli.terminal import Phases, emit, interrupted, say, show


def train_scope(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the scope.")],
    extra: Annotated[
        Path | None, typer.Option("--extra", metavar="DIR", help="Folder with public files to learn from too.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of everything that is drawn.")] = 0,
    head_steps: Annotated[int, typer.Option("--head-steps", min=1, help="Steps of the two heads.")] = 1500,
    check_steps: Annotated[int, typer.Option("--check-steps", min=1, help="Steps of the pair check.")] = 5000,
    as_json: AsJson = False,
) -> None:
    """Train what tells who and what a prompt asks.

    That is a scope: two heads and a pair check on a text encoder. The package brings one, and the prompts about
    thousands of facts that it was trained on. It is trained on those, and on what lies in --extra (docs/scope.md names
    the files); its score is joined on relations that it was not trained on. Training is saved now and then: after
    Ctrl-C the same command goes on, and ends with the very same scope. Then: horen edit … --set encoder=DIR.

    \b
    Example:
      horen scope --out scope
    """
    from horen.model.zoo.encoder import encoder_parts, fetch_encoder  # noqa: PLC0415
    from horen.scope.training.run import Plan, report_of  # noqa: PLC0415
    from horen.scope.training.run import train_scope as run  # noqa: PLC0415

    def base() -> tuple[Any, Any]:
        return encoder_parts(fetch_encoder())

    import transformers  # noqa: PLC0415

    fetch_encoder(progress=True)
    logging: Any = transformers.logging
    logging.disable_progress_bar()
    plan = Plan(head_steps, check_steps, seed, extra)
    try:
        with Phases() as phases:
            run(base, plan, out, phases.at)
    except KeyboardInterrupt:
        raise interrupted(f"Interrupted: what was trained is kept in {out}. The same command goes on.") from None
    sizes = sum(place.stat().st_size for place in out.glob("scope.*"))
    if as_json:
        emit({"folder": str(out), "bytes": sizes, "report": report_of(out)})
        return
    seen = report_of(out)["rates"]
    show(
        f"Of relations that nothing was fitted on {seen['own']:.3f} of the rephrases wake their edit; "
        f"{seen['about']:.3f} of other questions about a stored subject fire, {seen['other']:.3f} of those on others."
    )
    say(f"The scope is in {out} ({sizes / 1e6:.1f} MB): horen edit … --set encoder={out}")
