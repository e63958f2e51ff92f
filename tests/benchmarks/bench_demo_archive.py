"""How quick the local archive is: one cutout of each release, and the plan of a deep field. Run by hand."""

import time

from spxflow.demo import scenario
from spxflow.demo.frames import target_window


def best_of(repeats, action):
    """Shortest time of an action, s."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    releases = scenario.load("releases")
    for release in ("qr2", "qr3"):
        file = next(file for file in releases.files.values() if file.release == release)
        window = target_window(file.exposure)
        seconds = best_of(10, lambda file=file, window=window: releases.render(file, window))
        print(f"{release} cutout of 60 x 60 px: {seconds * 1e3:.1f} ms")
    print(f"plan of 20,000 files: {best_of(2, lambda: scenario.load('deep', n=20000)):.2f} s")


if __name__ == "__main__":
    main()
