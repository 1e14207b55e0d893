"""The page in a real browser: headless Chromium, driven through chromedriver by the WebDriver protocol."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from exhibit_samples import DIFFERENCES, EVIL, EXHIBITS, TABLE
from hybrid_bench.errors import one_line
from hybrid_bench.reporting.html import page

pytestmark = pytest.mark.slow

#: What a window of a browser that nobody looks at, and that asks nothing of anybody, needs.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Escape": "\ue00c", "Left": "\ue012", "Right": "\ue014", "Down": "\ue015"}


class Browser:
    """A window of Chromium, and what the tests do with it."""

    def __init__(self, profile: Path) -> None:
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        assert chromium, "chromium is not installed"
        assert driver, "chromedriver is not installed"
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy stands between us and a process on this machine
        self._process = subprocess.Popen(
            [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._process.stdout is not None
        port = next(
            found[1] for line in self._process.stdout if (found := re.search(r"successfully on port (\d+)", line))
        )
        self._drain = threading.Thread(target=self._process.stdout.read, daemon=True)
        self._drain.start()
        self._url = f"http://127.0.0.1:{port}/session"
        options = {"binary": chromium, "args": [*FLAGS, f"--user-data-dir={profile}", "--window-size=1280,900"]}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
        }
        try:
            self._url += "/" + self.call("POST", "", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        except BaseException:
            self.close()
            raise

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """A command of the protocol."""
        answer = self._http.request(method, self._url + path, json=body, timeout=60)
        value = answer.json()["value"]
        assert answer.ok, value
        return value

    def close(self) -> None:
        try:
            if "/session/" in self._url:
                self.call("DELETE", "")
        finally:
            self._process.terminate()
            self._process.wait(30)
            self._drain.join(30)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._http.close()

    def open(self, url: str) -> None:
        self.call("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        return self.call("POST", "/execute/sync", {"script": script, "args": arguments})

    def chrome(self, command: str, **parameters: Any) -> Any:
        """A command of Chromium's own protocol."""
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def prefer(self, theme: str, media: str = "screen") -> None:
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.chrome("Emulation.setEmulatedMedia", media=media, features=features)

    def resize(self, width: int, height: int = 800, mobile: bool = False) -> None:
        self.chrome(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile
        )

    def find(self, selector: str) -> dict[str, str]:
        found: dict[str, str] = self.call("POST", "/element", {"using": "css selector", "value": selector})
        return found

    def click(self, selector: str) -> None:
        self.call("POST", f"/element/{next(iter(self.find(selector).values()))}/click", {})

    def point_at(self, selector: str) -> None:
        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center', inline: 'center'})", element)
        move = {"type": "pointerMove", "duration": 0, "origin": element, "x": 0, "y": 0}
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": [move]}
        self.call("POST", "/actions", {"actions": [mouse]})

    def press(self, *keys: str) -> None:
        steps = [{"type": kind, "value": KEYS[key]} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": steps}]})

    def tip(self) -> str | None:
        """What the hint says that is shown now."""
        found: str | None = self.run("const t = document.getElementById('tip'); return t.hidden ? null : t.textContent")
        return found

    def log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.call("POST", "/se/log", {"type": kind})
        return entries

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        taken = self.chrome("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))


class Server(ThreadingHTTPServer):
    """Serves one page and notes every request."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/report"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if missing:
        message = f"{' and '.join(missing)} not installed: apt-get install chromium chromium-driver"
        if os.environ.get("HYBRID_BENCH_REQUIRE_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(f"Report {EVIL}", EXHIBITS, {"versions": {"hybrid_bench": "1"}, "runs": [EVIL]}), "utf-8")
    return path


@pytest.fixture(scope="module")
def server(file: Path) -> Iterator[Server]:
    serving = Server(file.read_bytes())
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield serving
    serving.shutdown()
    thread.join()
    serving.server_close()


@pytest.fixture
def opened(browser: Browser, server: Server) -> Browser:
    """The page, as somebody sees it for the first time."""
    browser.resize(1280, 900)
    browser.prefer("light")
    browser.open(server.url)
    browser.run("localStorage.clear()")
    browser.open(server.url)
    return browser


# -- sorting ------------------------------------------------------------------------------------------------------


def rows(browser: Browser, body: int = 0) -> list[str]:
    """Labels of a section's rows, top to bottom."""
    found: list[str] = browser.run(
        "return [...document.querySelector('table.numbers').tBodies[arguments[0]].rows]"
        ".filter(row => !row.matches('.section')).map(row => row.cells[0].querySelector('bdi').textContent)",
        body,
    )
    return found


def head(place: int) -> str:
    return f"table.numbers thead tr:last-child th:nth-child({place + 1})"


def sort_state(browser: Browser, place: int) -> str:
    return str(browser.run("return document.querySelector(arguments[0]).getAttribute('aria-sort')", head(place)))


def expected(place: int, best_first: bool, section: str = "XQuAD-R") -> list[str]:
    """The order that the samples should get, by their unrounded values; what has none comes last."""
    column = TABLE.columns[place]
    values = [(row.cells[place].value, one_line(row.label)) for row in TABLE.rows if row.section == section]
    present = sorted((value, label) for value, label in values if value is not None)
    descending = bool(column.higher_is_better) == best_first
    ordered = [label for _, label in (reversed(present) if descending else present)]
    return ordered + [label for value, label in values if value is None]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_sorting_goes_by_unrounded_values_and_puts_missing_last(place: int, opened: Browser) -> None:
    original = rows(opened)
    assert original == [one_line(row.label) for row in TABLE.rows if row.section == "XQuAD-R"]
    best = "ascending" if place == 2 else "descending"
    button = f"{head(place + 1)} button"
    opened.click(button)
    assert sort_state(opened, place + 1) == best
    assert rows(opened) == expected(place, best_first=True) != original
    assert rows(opened, 1) == expected(place, best_first=True, section="MLQA-R")
    opened.click(button)
    assert sort_state(opened, place + 1) == ("descending" if best == "ascending" else "ascending")
    assert rows(opened) == expected(place, best_first=False)
    opened.click(button)
    assert sort_state(opened, place + 1) == "none"
    assert rows(opened) == original


def test_sections_stay_where_they_are(opened: Browser) -> None:
    opened.click(f"{head(1)} button")
    found = opened.run("return [...document.querySelectorAll('.section bdi')].map(each => each.textContent)")
    assert found == ["XQuAD-R", "MLQA-R"]
    first = opened.run(
        "return [...document.querySelectorAll('table.numbers tbody')].map(each => each.rows[0].className)"
    )
    assert first == ["section", "section"]


def test_words_are_sorted_as_words_by_the_keyboard(opened: Browser) -> None:
    opened.run("document.querySelector(arguments[0]).focus()", f"{head(0)} button")
    opened.press("Enter")
    assert sort_state(opened, 0) == "ascending"
    assert rows(opened) == ["a", "b", "mBERT hybrid", "random ranking"]
    opened.press("Enter")
    assert rows(opened) == ["random ranking", "mBERT hybrid", "b", "a"]
    opened.run("document.querySelector(arguments[0]).focus()", f"{head(4)} button")
    opened.press("Enter")
    assert sort_state(opened, 0) == "none"
    assert rows(opened)[:2] == ["a", "b"]  # 9/11 before 11/11; the others have none


# -- hints --------------------------------------------------------------------------------------------------------

MARKED = "table.numbers tbody tr:nth-child(2) td:nth-of-type(2)"


def test_pointing_at_a_number_tells_interval_and_p_values(opened: Browser) -> None:
    assert opened.tip() is None
    opened.point_at(MARKED)
    assert opened.tip() == "0.3\ninterval 0.28 to 0.32\np = 0.0123\nadjusted p = 0.0246"
    opened.point_at("h1")
    assert opened.tip() is None


def test_the_keyboard_reaches_every_hint_with_one_stop_for_each_table(opened: Browser) -> None:
    opened.run("document.querySelector(arguments[0]).focus()", f"{head(4)} button")
    opened.press("Tab")
    tip = opened.tip()
    assert tip is not None
    assert tip.startswith("0.70012\ninterval 0.68 to 0.72")
    opened.press("Right")
    assert "p = 0.0123" in (opened.tip() or "")
    assert opened.run("return document.activeElement.getAttribute('aria-describedby')") == "tip"
    opened.press("Escape")
    assert opened.tip() is None
    opened.press("Tab")  # out of the table, into the heat map's first cell
    assert (opened.tip() or "").startswith("query language Arabic, passage language Arabic\nmAP ↑: 0.020")
    opened.press("Right", "Down")
    assert (opened.tip() or "").startswith("query language German, passage language German")


def test_a_tap_shows_a_hint(opened: Browser) -> None:
    opened.resize(360, 740, mobile=True)
    opened.chrome("Emulation.setTouchEmulationEnabled", enabled=True)
    try:
        opened.run("document.querySelector(arguments[0]).scrollIntoView({block: 'center', inline: 'center'})", MARKED)
        box = opened.run("return document.querySelector(arguments[0]).getBoundingClientRect().toJSON()", MARKED)
        where = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        opened.chrome("Input.dispatchTouchEvent", type="touchStart", touchPoints=[where])
        opened.chrome("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        wait_for(lambda: "p = 0.0123" in (opened.tip() or ""))
        inside = opened.run(
            "const t = document.getElementById('tip').getBoundingClientRect();"
            "return t.left >= 0 && t.right <= innerWidth && t.top >= 0 && t.bottom <= innerHeight"
        )
        assert inside
    finally:
        opened.chrome("Emulation.setTouchEmulationEnabled", enabled=False)


def wait_for(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end, "not within 10 seconds"
        time.sleep(0.05)


def test_drawings_and_heat_maps_have_hints_too(opened: Browser) -> None:
    opened.point_at("#exhibit-differences tbody td")
    assert opened.tip() == (
        "query language German, passage language German\ndifference in mAP: -0.250\n"
        "95% interval -0.30 to -0.20; p = 0.0001"
    )
    assert DIFFERENCES.hints is not None
    opened.point_at("#exhibit-per-language .mark .filled")
    assert re.fullmatch(r"a\nar: 0\.\d+\ninterval 0\.\d+ to 0\.\d+", opened.tip() or "")
    opened.point_at("#exhibit-rank-distance .mark:last-child .filled")
    assert re.fullmatch(r"_hidden\$\n90% of 3,000 queries: at most [\d,.]+", opened.tip() or "")
    opened.point_at("#exhibit-sweep .mark .filled")
    assert opened.tip() == ("MiniLM, α = 1\nmonolingual mAP ↑: 0.686\ncross-lingual mAP ↑: 0.293\nrank distance: 675")
    opened.press("Escape")
    opened.run("document.querySelector('#exhibit-bias-quality .mark').focus()")
    assert "rank distance ↓: 4,000" in (opened.tip() or "")


# -- themes -------------------------------------------------------------------------------------------------------


def colours(browser: Browser) -> tuple[float, float]:
    """Mean brightness of the page's background and of its text, 0 to 255."""
    found = browser.run("const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]")
    back, front = (sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / 3 for colour in found)
    return back, front


def test_the_page_follows_the_system_and_the_button(opened: Browser) -> None:
    light = colours(opened)
    assert light[0] > 240
    assert light[1] < 60
    opened.prefer("dark")
    dark = colours(opened)
    assert dark[0] < 40
    assert dark[1] > 200
    opened.click("#theme")
    assert colours(opened) == light
    opened.call("POST", "/refresh", {})
    assert colours(opened) == light, "the choice is remembered"
    opened.prefer("light")
    opened.click("#theme")
    assert colours(opened) == dark
    assert opened.run("return document.getElementById('theme').textContent") == "Light theme"


def test_paper_is_white_in_either_theme(opened: Browser) -> None:
    opened.prefer("dark", media="print")
    assert colours(opened) == (255, 0)
    opened.prefer("light")
    opened.click("#theme")
    opened.prefer("dark", media="print")
    assert colours(opened) == (255, 0)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_read_against_its_background(theme: str, opened: Browser) -> None:
    opened.prefer(theme)
    worst = opened.run(CONTRASTS)
    assert worst["checked"] > 150
    assert worst["least"] >= 4.5, worst


#: The least contrast (WCAG 2) of a text of the page against what is behind it.
CONTRASTS = """
const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
const luminance = (c) => {
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = c.slice(0, 3).map((v) => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
let least = 99, where = '', checked = 0;
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || element.closest('[hidden]') || !element.getClientRects().length) continue;
  const front = rgb(getComputedStyle(element)[element.closest('svg') ? 'fill' : 'color']);
  let behind = element, back = [0, 0, 0, 0];
  while (behind && (back = rgb(getComputedStyle(behind).backgroundColor)).length === 4 && back[3] === 0) {
    behind = behind.parentElement;
  }
  const [dark, bright] = [luminance(front), luminance(back)].sort((a, b) => a - b);
  const contrast = (bright + 0.05) / (dark + 0.05);
  checked += 1;
  if (contrast < least) { least = contrast; where = element.outerHTML.slice(0, 200); }
}
return {least, where, checked};
"""

# -- size, safety, silence ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_the_page_never_scrolls_sideways(width: int, opened: Browser) -> None:
    opened.resize(width, 740, mobile=width < 700)
    whole, seen, window = opened.run(
        "const r = document.documentElement; return [r.scrollWidth, r.clientWidth, innerWidth]"
    )
    assert window == width
    assert whole == seen <= width
    # What is wider scrolls within its own box, and the tables' names stay in sight.
    wide = opened.run(
        "return [...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth).length"
    )
    assert wide > 0 or width > 700
    stays = opened.run(
        "const box = document.querySelector('.scroll'); box.scrollLeft = 1000;"
        "const row = box.querySelector('tbody tr:nth-child(2)');"
        "return row.cells[0].getBoundingClientRect().left - box.getBoundingClientRect().left"
    )
    assert stays == 0


@pytest.mark.parametrize(("width", "shown"), [(360, False), (1280, True)])
def test_contents_are_folded_on_a_phone(width: int, shown: bool, opened: Browser) -> None:
    opened.resize(width, 740, mobile=width < 700)
    opened.call("POST", "/refresh", {})
    first = "return document.querySelector('nav a').checkVisibility()"
    wait_for(lambda: opened.run("return document.readyState") == "complete")
    assert opened.run(first) is shown
    opened.click("nav summary")
    assert opened.run(first) is not shown


def test_nothing_of_a_name_is_run(opened: Browser) -> None:
    assert opened.run("return document.scripts.length") == 1
    assert opened.run("return document.images.length") == 0
    title = opened.run("return document.title")
    assert title.startswith('Report <script>alert("1")</script>')
    errors = [entry for entry in opened.log("browser") if entry["level"] in {"SEVERE", "WARNING"}]
    assert errors == []


def test_the_policy_stops_what_is_not_the_pages_own(opened: Browser) -> None:
    opened.log("browser")
    added = opened.run(
        "window.added = false; const s = document.createElement('script'); s.textContent = 'window.added = true';"
        "document.head.append(s); const i = new Image(); i.src = 'http://127.0.0.1:9/x.png'; return window.added"
    )
    assert added is False
    wait_for(lambda: any("Content Security Policy" in entry["message"] for entry in opened.log("browser")))


def test_the_page_asks_nothing_of_anybody(opened: Browser, server: Server) -> None:
    opened.open("about:blank")
    opened.log("performance")
    server.asked.clear()
    opened.open(server.url)
    opened.click(f"{head(1)} button")
    opened.point_at(MARKED)
    opened.click("#theme")
    time.sleep(1)  # for what would come late, an icon for one
    assert server.asked == ["/report"]
    messages = [json.loads(entry["message"])["message"] for entry in opened.log("performance")]
    sent = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    assert sent == [server.url]
    assert opened.run("return performance.getEntriesByType('resource').length") == 0


def test_it_works_as_a_file(browser: Browser, file: Path) -> None:
    browser.log("browser")
    browser.open(file.as_uri())
    browser.click("#theme")
    browser.click(f"{head(1)} button")
    assert rows(browser) == expected(0, best_first=True)
    assert [entry for entry in browser.log("browser") if entry["level"] in {"SEVERE", "WARNING"}] == []


def test_without_script_everything_is_there_to_read(opened: Browser) -> None:
    opened.chrome("Emulation.setScriptExecutionDisabled", value=True)
    try:
        opened.call("POST", "/refresh", {})
        root = opened.chrome("DOM.getDocument")["root"]["nodeId"]

        def count(selector: str) -> int:
            return len(opened.chrome("DOM.querySelectorAll", nodeId=root, selector=selector)["nodeIds"])

        assert count("td[title*='p = 0.0123']") == 1
        assert count("svg .mark > title") == count("svg .mark") > 50
        assert count("table.heat td[title]") == 121 + 6
        assert count("th button") == 0
        assert count("#theme[hidden]") == 1
    finally:
        opened.chrome("Emulation.setScriptExecutionDisabled", value=False)
