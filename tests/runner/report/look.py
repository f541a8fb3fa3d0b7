"""Pictures of the comparison page in a real browser, and how long it takes to draw.

python tests/runner/report/look.py OUT [CHROMIUM]     (Debian: apt-get install chromium)

Twelve runs of 2,000 steps; 1280 and 420 pixels, light and dark. Prints the size of the
page and the milliseconds from its request to the last curve.
"""

import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path

from runner import report
from tests.runner.report.pages import CONFIG, RESULT

RUNS, STEPS = 12, 2000


def run(directory: Path, number: int) -> Path:
    """Write a run whose curves are noisy, and as many as a long one has."""
    directory.mkdir(parents=True, exist_ok=True)
    noise, rows = random.Random(number), []
    for step in range(STEPS + 1):
        fall = math.exp(-12 * step / STEPS / (1 + 0.1 * number))
        loss, row = 4.2 + 0.05 * number + 4 * fall, {"step": step}
        if step % 50 == 0:
            held_out = {"loss": loss, "teacher/loss": 4.05, "kl": 0.3 + 2 * fall}
            held_out |= {"terms/ce": loss, "terms/z_loss": 1 + 1e3 * fall}
            row |= {f"held_out/{name}": value for name, value in held_out.items()}
        if step:
            row |= {
                "learning/ce": loss + noise.gauss(0, 0.15),
                "learning/z_loss": 1 + 1e3 * fall * math.exp(noise.gauss(0, 0.2)),
                "learning/total": loss + 0.1,
                "optimizer/gradient_norm": 1 + noise.random(),
                "speed/steps_per_second": 2 + noise.random(),
            }
        rows.append(json.dumps(row))
    (directory / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    (directory / "config.txt").write_text(CONFIG.replace(": 60", f": {STEPS}"))
    (directory / "result.json").write_text(json.dumps(RESULT))
    costs = {"targets_per_step": 2048, "flops_per_step": 1.2e11 * (1 + number % 4)}
    (directory / "costs.json").write_text(json.dumps(costs))
    return directory


def main(out: Path, browser: str = "chromium") -> None:
    """Write the pictures, and print what the page costs."""
    runs = [run(out / "runs" / f"{i}", i) for i in range(RUNS)]
    report.compare([f"run {i}={path}" for i, path in enumerate(runs)], to=str(out))
    page = out / "comparison.html"
    print(f"{page.stat().st_size / 1e6:.2f} MB (at most 6)")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu"]
    command += [f"--user-data-dir={out / 'profile'}"]
    for width in (1280, 420):
        for scheme, name in ((1, "light"), (0, "dark")):
            picture = out / f"{width}-{name}.png"
            look = f"--blink-settings=preferredColorScheme={scheme}"
            size = f"--window-size={width},2600"
            shot = [look, size, "--virtual-time-budget=4000", f"--screenshot={picture}"]
            subprocess.run([*command, *shot, page.as_uri()], check=True, stderr=-3)
    # Timed in a copy without the policy, which would refuse the clock's script.
    text = re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text())
    clock = "<script>document.title = performance.now()</script>"
    timed = out / "timed.html"
    timed.write_text(text.replace("</body>", f"{clock}</body>"))
    command += ["--dump-dom", timed.as_uri()]
    dom = subprocess.run(command, check=True, stderr=-3, stdout=-1, text=True).stdout
    title = re.search(r"<title>([\d.]+)", dom)
    assert title is not None, "the page was not drawn"
    print(f"{float(title[1]):.0f} ms to draw (at most 2000)")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), *sys.argv[2:])
