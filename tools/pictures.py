"""Draws the pictures of docs/read/gallery.md and the screens that README shows, from what Mowich makes: `python tools/pictures.py`.

Each entry of `GALLERY` is a question, the command that answers it, and the picture of its report that shows the answer. A picture is found by words of its title,
so that it stays found when a report gets more pictures; the words are tried in order. The script draws all pictures, keeps going where one fails, and says at the
end what is missing. `--check` draws nothing and says which pictures are missing or too large. `--only NAME` draws those whose name begins so.

It needs Chromium (Debian: apt-get install chromium). The page itself is text and is written by `make docs` (`pages`).
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from pages import write

from mowich import cli
from mowich.facts import load_facts
from mowich.show.render.html import render_html
from mowich.show.verbs import page_of

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "read" / "gallery.md"
IMAGES = ROOT / "docs" / "images"
MOST_BYTES = {".svg": 120_000, ".png": 280_000}
"""A picture of a page is small: the repository keeps every version of it."""
SCREEN = (1280, 860)
"""Pixels of a screen that README shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """name: of the file, without its ending; titles: words of the title of the picture in the report, the first that are found count; see: pages that say more."""

    name: str
    question: str
    command: str
    titles: tuple[str, ...]
    say: str
    see: str

    @property
    def file(self) -> Path:
        return IMAGES / f"gallery-{self.name}.svg"


TRAINED = (
    "mowich compare llama-3.1-70b --train --tokens 1T --seq 8192 --batch 1024seqs --on trn3,ironwood,gb300 --chips 1024"
)
SERVED = "mowich compare gpt-oss-120b --serve --isl 8k --osl 1k --on trn3,ironwood,gb300 --chips 64"

GALLERY = (
    Picture(
        name="step-time",
        question="Which machine trains my model fastest, and how sure is that?",
        command=TRAINED,
        titles=("Step time with its 90% range", "Step time"),
        say="Where two 90% ranges overlap, nobody is called the winner.",
        see="[tutorial](../read/tutorial.md)",
    ),
    Picture(
        name="step-parts",
        question="Where does the time of a training step go?",
        command=TRAINED,
        titles=("Where the time of a step goes", "time of a step"),
        say="Parts sum to the step; `mowich explain` has the formula of each.",
        see="[how a training step is predicted](../theory/theory-training.md)",
    ),
    Picture(
        name="break-even",
        question="At which price is a chip without a price the cheaper one?",
        command=TRAINED,
        titles=("Cost against the price of a chip-hour", "price of a chip-hour"),
        say="Follow a line to the price that you pay, and read the dollars for a million tokens.",
        see="[prices](../records/prices.md)",
    ),
    Picture(
        name="serving-front",
        question="What does a fast answer cost in throughput?",
        command=SERVED,
        titles=("Throughput of a chip against speed", "against speed"),
        say="To the right an answer appears faster, higher up a chip makes more tokens.",
        see="[serving](../theory/theory-serving.md)",
    ),
    Picture(
        name="serving-memory",
        question="What fills the memory of a chip that serves?",
        command=SERVED,
        titles=("Memory of a decoding device", "Memory"),
        say="The mark is what a program may use.",
        see="[serving](../theory/theory-serving.md)",
    ),
    Picture(
        name="rl-split",
        question="Which chips should make answers, and which should learn from them?",
        command="mowich rl qwen3-30b-a3b --grpo --prompts 64 --samples 32 --global-batch 512 --mean 3200 --cap 4096 --framework nemo-rl --staleness 1"
        " --chips 64 --on gb300,trn3",
        titles=("Dollars of a million trained tokens",),
        say="A dot is the best run of its kind; an empty one is a split that no other beats in both time and cost.",
        see="[an RL run in six commands](../read/tutorial-rl.md)",
    ),
    Picture(
        name="gap",
        question="Why is one machine faster than another?",
        command="mowich gap trn3 gb300 --model llama-3.1-8b --train --tokens 1T --seq 4096 --batch 512seqs --chips 64",
        titles=("From trn3 to gb300", "From "),
        say="Each bar is what one property is worth; they multiply to the whole difference.",
        see="[gap](../read/gap.md)",
    ),
    Picture(
        name="value-memory",
        question="What would more memory be worth?",
        command="mowich value trn3 --of memory --model llama-3.1-70b --serve --isl 8k --osl 1k --chips 16",
        titles=("Tokens against memory", "against memory"),
        say="The same machine with another amount of memory, planned again at each point.",
        see="[gap and value](../read/gap.md#what-more-of-a-property-is-worth)",
    ),
    Picture(
        name="ownership",
        question="What does an hour of a chip cost whoever owns it?",
        command="mowich prices --on trn2,trn3,ironwood,gb300,h200",
        titles=("Cost of a chip-hour by part", "by part"),
        say="Silicon, memory, network, power, people and interest, each from a source.",
        see="[prices](../records/prices.md)",
    ),
    Picture(
        name="failures",
        question="How much of its time does a million chips make progress?",
        command="mowich goodput --on trn3:1000000 --samples 100",
        titles=("Where the time goes", "Goodput"),
        say="Something fails every few minutes. What happens next decides.",
        see="[long runs](../records/goodput.md)",
    ),
    Picture(
        name="fleet",
        question="What should a start-up rent over two years?",
        command="mowich fleet startup",
        titles=("Chips that stand", "Chips"),
        say="Chips by quarter, at the least cost of all work.",
        see="[fleets](../read/fleet.md)",
    ),
    Picture(
        name="collective",
        question="How long do 144 chips take to add up a vector?",
        command="mowich collective all-reduce --on trn3:144 --bytes 1KiB,64KiB,1MiB,16MiB,256MiB,1GiB",
        titles=("Time against size",),
        say="Small vectors wait for the latency of the links, large ones for their bandwidth.",
        see="[collectives](../theory/collectives.md)",
    ),
    Picture(
        name="kernel",
        question="Which engine of the chip does my kernel wait for?",
        command="mowich kernel profile @attention_prefill --target trn3",
        titles=("Engines: busy, waiting, idle", "Engines"),
        say="The longest busy bar is the limit.",
        see="[kernels](../read/kernels.md)",
    ),
)

BEFORE = """# Gallery

Generated by `python tools/pictures.py`: do not edit. With `--out r.json` behind a command, `mowich report r.json` makes a page with all its pictures.

"""


def wrapped(command: str, width: int = 90) -> str:
    """A command in lines that a page has room for, cut before options."""
    lines = [""]
    for part in re.split(r" (?=--)", command):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append(part)
        else:
            lines[-1] = f"{lines[-1]} {part}".strip()
    return " \\\n    ".join(lines)


def pages() -> dict[Path, str]:
    """The page and its text now; no picture is drawn."""
    out = BEFORE
    for one in GALLERY:
        out += f"## {one.question}\n\n```console\n{wrapped(one.command)}\n```\n\n"
        out += f"![{one.titles[0]}](../images/{one.file.name})\n\n{one.say} More: {one.see}.\n\n"
    return {PAGE: out.rstrip() + "\n"}


def browser() -> str:
    """The path of Chromium."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        raise SystemExit("Chromium is needed: apt-get install chromium")
    return found


def chromium(folder: str, *flags: str) -> str:
    """What Chromium prints, started with a profile of its own."""
    usual = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--hide-scrollbars",
    )
    done = subprocess.run(
        [browser(), *usual, f"--user-data-dir={folder}/profile", *flags],
        check=True,
        capture_output=True,
        text=True,
        timeout=180,
    )
    return done.stdout


def answered(command: str) -> str:
    """The JSON that a command writes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "answer.json"
        words = [*shlex.split(command)[1:], "--out", str(file), "--quiet"]
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        with contextlib.redirect_stdout(out):
            code = cli.run(words)
        if code:
            raise RuntimeError(f"{command}: exit {code}")
        return file.read_text(encoding="utf-8")


DRAWN = re.compile(r'id="chart(\d+)".*?(<svg.*?</svg>)', re.DOTALL)
"""A chart of a report, in the DOM of the browser."""


NUMBERS = re.compile(r' (?:d|transform)="[^"]*"')
"""What places a line or a shape: words of a picture are no such thing."""


def drawn(html: str) -> dict[int, str]:
    """The charts of a report by their place, as standalone SVG on white."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        file.write_text(html, encoding="utf-8")
        dom = chromium(folder, "--virtual-time-budget=6000", "--window-size=1100,3000", "--dump-dom", file.as_uri())
    return {int(m[1]): standalone(m[2]) for m in DRAWN.finditer(dom)}


def standalone(svg: str) -> str:
    """A picture of a page as a file of its own: on white, with the namespace that a file needs, coordinates with four decimals."""
    svg = re.sub(r'style="[^"]*"', 'style="background:#fff"', svg, count=1)
    if "xmlns=" not in svg.split(">", 1)[0]:
        svg = svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return NUMBERS.sub(lambda drawing: re.sub(r"(\d\.\d{4})\d+", r"\1", drawing[0]), svg) + "\n"


def chosen(titles: list[str], wanted: tuple[str, ...]) -> int:
    """The place of the first title that holds the first words found. Raises ValueError, with the titles, where there is none."""
    for words in wanted:
        for place, title in enumerate(titles):
            if words.lower() in title.lower():
                return place
    raise ValueError(f"no picture has a title with {' or '.join(wanted)}: {'; '.join(titles)}")


def draw_gallery(only: str) -> Iterator[str]:
    """Draw every picture of the gallery; what could not be drawn."""
    reports: dict[str, tuple[list[str], dict[int, str]]] = {}
    for one in GALLERY:
        if not one.name.startswith(only):
            continue
        try:
            if one.command not in reports:
                answer = json.loads(answered(one.command))
                reports[one.command] = ([c.title for c in page_of(answer).charts], drawn(render_html(answer)))
            titles, pictures = reports[one.command]
            one.file.write_text(pictures[chosen(titles, one.titles)], encoding="utf-8")
            print(f"{one.file.relative_to(ROOT)}: {one.file.stat().st_size:,} B")
        except (ValueError, KeyError, RuntimeError, subprocess.SubprocessError) as error:
            yield f"{one.name}: {error!r}"


def shot(address: str, name: str, size: tuple[int, int] = SCREEN) -> None:
    """A screen of a page, as it looks after some seconds. The page is opened twice in one profile: the second time its scripts are in the cache, and what they draw is
    there when the picture is taken."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "shot.png"
        flags = (
            "--virtual-time-budget=60000",
            "--run-all-compositor-stages-before-draw",
            f"--window-size={size[0]},{size[1]}",
        )
        for _ in range(2):
            chromium(folder, *flags, f"--screenshot={made}", address)
        shutil.copy(made, IMAGES / name)
    print(f"docs/images/{name}: {(IMAGES / name).stat().st_size:,} B")


@contextlib.contextmanager
def served() -> Iterator[str]:
    """The address of the web page, while it runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = subprocess.Popen(
        [sys.executable, "-m", "mowich", "web", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(120):
            with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/", timeout=2):
                break
            time.sleep(0.25)
        yield f"http://127.0.0.1:{port}/"
    finally:
        run.terminate()
        run.wait(timeout=20)


def draw_screens(only: str) -> Iterator[str]:
    """The screens that README shows: a report, and the web page; what could not be drawn."""
    try:
        if "screen-report".startswith(only):
            answer = json.loads(answered(TRAINED))
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "report.html"
                file.write_text(render_html(answer, facts=load_facts()), encoding="utf-8")
                shot(file.as_uri(), "screen-report.png")
        if "screen-page".startswith(only):
            with served() as address:
                shot(address, "screen-page.png")
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        yield f"screens: {error!r}"


def wrong() -> list[str]:
    """Pictures that are missing or too large."""
    files = [one.file for one in GALLERY] + [IMAGES / "screen-report.png", IMAGES / "screen-page.png"]
    return [
        f"{file.name}: {'missing' if not file.is_file() else f'{file.stat().st_size:,} B'}"
        for file in files
        if not file.is_file() or file.stat().st_size > MOST_BYTES[file.suffix]
    ]


def main() -> int:
    """Draw everything and write the page; 1 where something is missing."""
    problems: list[str] = []
    if "--check" not in sys.argv:
        only = sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else ""
        IMAGES.mkdir(exist_ok=True)
        problems = [*draw_gallery(only), *draw_screens(only)]
        write(pages())
    problems += wrong()
    print("\n".join(problems) or "every picture is there")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
