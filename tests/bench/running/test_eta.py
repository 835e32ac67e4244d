from types import SimpleNamespace

import pytest

from roselora.bench.running import eta as module
from roselora.bench.running.eta import Eta, RunProgress


def test_the_time_left_follows_each_methods_own_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    shown: list[RunProgress] = []
    eta = Eta({"fast": 3, "slow": 3}, done=2, on_progress=shown.append)
    eta.begin("loading")
    now = 1.0
    eta.made("fast", 1)
    eta.begin("one")
    now = 10.0
    eta.made("slow", 1)
    eta.begin("two")
    eta.resumed("slow", 1)
    eta.begin("resumed")
    assert [(at.done, at.total, at.seconds_left) for at in shown] == [
        (2, 8, None),
        (3, 8, 5.0),  # by the one speed that is known
        (4, 8, 2 * 1.0 + 2 * 9.0),
        (5, 8, 2 * 1.0 + 9.0),
    ]
    eta.within("slow, edit 3/8")(2, 4)
    assert shown[-1].doing == "slow, edit 3/8, 2/4 of its call"
