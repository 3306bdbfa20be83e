"""A service in a process of its own: ``python served_alone.py STORE SECONDS SETTINGS`` prints its port, and serves."""

from __future__ import annotations

import json
import sys

from horen.database import Store
from horen.serve.running import bound, run
from horen.serve.settings import Settings
from horen.serve.telemetry.logs import write_logs
from support.services import Asker


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    path, pause, told = sys.argv[1:]
    settings = json.loads(told)
    write_logs()
    with Store.open(path) as store:
        asker = Asker(store, **settings)
        asker.engine.pause = float(pause)
        place = bound(Settings(**settings, port=0))
        say(str(place.getsockname()[1]))
        try:
            run(asker.app, place)
        finally:
            say("closed" if asker.engine.closed else "left open")


if __name__ == "__main__":
    main()
