from roselora.bench.report.plotting import COLOURS, MARKERS, styles


def test_twelve_methods_look_different() -> None:
    looks = styles([str(place) for place in range(len(COLOURS) * len(MARKERS))])
    assert len({tuple(look.values()) for look in looks.values()}) == len(looks) >= 12
