"""The pages of an atlas in a real browser, opened from disk: search, open, follow, go back, in the dark, on a phone."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsers import until
from synthetic_atlas import write_atlas

from gen_prior.atlas.pages import build_pages
from gen_prior.report.pages.render import asset
from gen_prior.util.words import short

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
EVIL = '<script>window.hacked=1</script><img src=x onerror="window.hacked=1"> \' " & /?#%'
LAYERS = {"blocks.1": "0-19", "blocks.10": "0-149", EVIL: "0-3", "logits": "0-11"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of four layers: one failed unit, the last shard of blocks.10 not made."""
    folder = write_atlas(
        tmp_path_factory.mktemp("an atlas # 1"), LAYERS, unfinished=[3], failed_units=["blocks.10:5"],
        labels=["goldfish", "tabby", "golden retriever", "school bus", EVIL],
    )  # fmt: skip
    build_pages(folder)
    return folder


@pytest.fixture
def overview(page: Page, folder: Path) -> Page:
    """The overview, all of whose layers are read."""
    return opened(page, folder)


def opened(page: Page, folder: Path, hash_: str = "") -> Page:
    page.goto((folder / "index.html").as_uri() + hash_)
    until(page, "document.documentElement.dataset.ready === '1'")
    return page


def heading(page: Page) -> str:
    """What the page of a unit is of."""
    return page.locator("#unit h1").inner_text()


def test_bands_stand_in_network_order_with_links_to_units(overview: Page) -> None:
    assert overview.locator(".head h2").all_inner_texts()[:2] == ["blocks.1", "blocks.10"]
    assert overview.locator("#status").inner_text() == "164 units"
    tile = overview.locator('.tile[href="#/blocks.1/7"]')
    assert tile.get_attribute("aria-label", timeout=1000).startswith("blocks.1:7")  # type: ignore[union-attr]
    assert "64 failed" not in overview.inner_text("body")
    assert "22 not made yet" in overview.inner_text("#summary")


def test_thumbnails_are_drawn(overview: Page) -> None:
    """The middle of a thumbnail has the colours of its picture, not of the paper."""
    assert (
        overview.locator(".tile").first.evaluate(
            "node => new Promise(done => { const image = new Image(); image.onload = () => done(image.naturalWidth);"
            " image.onerror = () => done(0); image.src = getComputedStyle(node).backgroundImage.slice(5, -2); })"
        )
        == 8 * 96
    )


def test_search_finds_units_layers_and_classes(overview: Page) -> None:
    for query, expected in {
        "blocks.10:42": 1, "blocks.1/3": 1, "school bus": None, '"golden retriever" 1': 4, "nothing-like-it": 0,
    }.items():  # fmt: skip
        overview.fill("#q", query)
        found = int(re.match(r"\d+", overview.locator("#status").inner_text())[0])  # type: ignore[index]
        assert overview.locator("#nothing").is_visible() == (found == 0)
        assert found == expected if expected is not None else 0 < found < 164, query
    overview.fill("#q", "logits tabby")
    assert overview.locator(".head h2").all_inner_texts() == ["logits"]
    assert "q=logits+tabby" in overview.url


def test_sorting_shows_the_numbers_in_order(overview: Page) -> None:
    overview.select_option("#sort", "ratio")
    values = [float(value) for value in overview.locator(".tile").evaluate_all(
        "all => all.filter(one => one.href.includes('blocks.1/')).map(one => one.dataset.value)"
    ) if value != "–"]  # fmt: skip
    assert len(values) > 10
    assert values == sorted(values, reverse=True)
    overview.fill("#least", "2")
    assert min(float(v) for v in overview.locator(".tile").evaluate_all("all => all.map(o => o.dataset.value)")) >= 2
    overview.fill("#least", "")
    overview.click("#order")
    assert overview.locator(".tile").first.get_attribute("data-value") == f"{min(values):.2f}"


def test_go_to_a_layer(overview: Page) -> None:
    overview.select_option("#layer", label="blocks.10")
    until(overview, "window.scrollY > 0")
    overview.wait_for_timeout(100)
    assert overview.evaluate("document.querySelector('#layer').selectedOptions[0].innerText") == "blocks.10"
    head = overview.locator(".head", has_text="blocks.10").bounding_box()
    bar = overview.locator("#bar").bounding_box()
    assert head is not None
    assert bar is not None
    assert -1 < head["y"] - (bar["y"] + bar["height"]) < 40


def test_filter_by_state(overview: Page) -> None:
    overview.select_option("#show", "failed")
    assert overview.locator(".tile").count() == 1
    assert "failed" in str(overview.locator(".tile").get_attribute("aria-label"))
    overview.select_option("#show", "dead")
    assert overview.locator(".tile.dead").count() == overview.locator(".tile").count() > 0


def test_open_a_unit_follow_a_neighbour_and_go_back(overview: Page) -> None:
    overview.fill("#q", "retriever")
    overview.evaluate("window.scrollTo(0, 500)")
    overview.wait_for_timeout(100)
    before = overview.evaluate("window.scrollY")
    overview.locator(".tile:not(.failed)").nth(20).click()
    overview.wait_for_selector("#unit h1")
    first = heading(overview)
    overview.locator(".nearest a").first.click()
    until(overview, f"document.querySelector('#unit h1').innerText !== {first!r}")
    overview.go_back()
    until(overview, f"document.querySelector('#unit h1').innerText === {first!r}")
    overview.go_back()
    overview.wait_for_selector("#bands .tile")
    assert overview.input_value("#q") == "retriever"
    assert overview.evaluate("window.scrollY") == pytest.approx(before, abs=2)


def test_a_unit_by_its_link(page: Page, folder: Path) -> None:
    opened(page, folder, "#/blocks.10/42")
    assert heading(page) == "blocks.10 unit 42"
    assert page.locator(".method").count() == 2
    assert page.locator(".method").first.locator(".picture").count() == 5
    until(page, "[...document.querySelectorAll('#unit img')].every(one => one.complete && one.naturalWidth > 0)")
    assert all(page.locator("#unit img.large").evaluate_all("all => all.map(one => one.alt)"))
    for words in ("evaluations", "Path similarity", "Chance is 50 %", "times as much as the best of 200 photographs"):
        assert words in page.inner_text("#unit"), words
    assert page.locator(".photographs img").count() == 8
    page.locator(".picture").nth(4).click()
    assert "least exciting" in page.locator("figcaption").first.inner_text()
    assert page.locator(".large").first.get_attribute("src") == "shards/00001/images/42-dgn-lite0-least.webp"
    assert page.locator(".files a").first.get_attribute("download") == "42-dgn-lite0-0.webp"


def test_the_command_can_be_copied(page: Page, folder: Path) -> None:
    opened(page, folder, "#/blocks.10/42")
    page.click(".command button")
    until(page, "document.querySelector('.command button').innerText === 'Copied'")


def test_keys(overview: Page) -> None:
    overview.keyboard.press("/")
    until(overview, "document.activeElement.id === 'q'")
    overview.keyboard.press("Escape")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        overview.keyboard.press(key)
    assert overview.evaluate("document.activeElement.getAttribute('href')") == "#/blocks.1/2"
    assert overview.locator("#hint").inner_text().startswith("blocks.1:2")
    overview.keyboard.press("Enter")
    overview.wait_for_selector("#unit h1")
    overview.wait_for_selector("#after[href]")
    overview.keyboard.press("ArrowRight")
    until(overview, "document.querySelector('#unit h1').innerText.endsWith('3')")
    overview.wait_for_selector("#before[href]")
    overview.keyboard.press("ArrowLeft")
    until(overview, "document.querySelector('#unit h1').innerText.endsWith('2')")
    overview.keyboard.press("Escape")
    overview.wait_for_selector("#bands .tile")


def test_next_goes_on_in_the_next_layer(page: Page, folder: Path) -> None:
    opened(page, folder, "#/blocks.1/19")
    page.wait_for_selector('#after[href="#/blocks.10/0"]')


def test_dark_by_choice_and_by_the_system(overview: Page) -> None:
    colour = "getComputedStyle(document.documentElement).backgroundColor"
    light = overview.evaluate(colour)
    overview.click("#theme")
    dark = overview.evaluate(colour)
    assert brightness(dark) < 60 < 200 < brightness(light)
    overview.reload()
    assert overview.evaluate(colour) == dark  # remembered
    overview.click("#theme")
    assert overview.evaluate(colour) == light
    overview.evaluate("localStorage.clear()")
    overview.emulate_media(color_scheme="dark")
    overview.reload()
    assert overview.evaluate(colour) == dark


def brightness(colour: str) -> int:
    return max(int(number) for number in re.findall(r"\d+", colour)[:3])


def test_on_a_phone_nothing_is_wider_than_the_screen(page: Page, folder: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    opened(page, folder)
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) == 390
    for unit in ("blocks.10/42", "logits/1"):  # the second with the words of a judge
        page.goto((folder / "index.html").as_uri() + f"#/{unit}")
        until(page, f"document.querySelector('#unit h1')?.innerText === '{unit.replace('/', ' unit ')}'")
        assert page.evaluate(wide) == 390, unit


def test_hostile_names_are_text(page: Page, folder: Path) -> None:
    opened(page, folder)
    page.fill("#q", "onerror")
    assert EVIL in page.locator(".head h2").all_inner_texts()
    page.locator(".tile").last.click()
    page.wait_for_selector("#unit h1")
    opened(page, folder)
    page.locator("#summary button.name", has_text="onerror").click()
    page.locator(f'.tile[href^="#/{"%3Cscript%3E"}"]').first.click()
    page.wait_for_selector("#unit h1")
    assert heading(page).startswith(EVIL)
    assert page.evaluate("window.hacked") is None


def test_failed_unmade_and_unknown_units_are_said(page: Page, folder: Path) -> None:
    for hash_, words in {
        "#/blocks.10/5": "the optimisation diverged",
        "#/blocks.10/149": "not made yet",
        "#/blocks.99/1": "no layer blocks.99",
    }.items():
        page.goto("about:blank")
        opened(page, folder, hash_)
        until(page, f"document.body.innerText.includes({words!r})")


def test_photographs_that_were_left_out_are_said_to_be(browser: Browser, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "published"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("photographs"))
    page = browser.new_page()  # images that are missing are errors in the console
    opened(page, copy, "#/blocks.10/42")
    until(page, "document.querySelectorAll('.absent').length === 8")
    assert "not in this copy" in page.inner_text(".photographs")
    page.close()


def test_missing_data_is_said(browser: Browser, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "broken"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("photographs", "index.js"))
    page = browser.new_page()
    page.goto((copy / "index.html").as_uri())
    until(page, "document.body.innerText.includes('data/index.js could not be read')")
    page.close()


def test_a_unit_prints_with_all_its_pictures_and_no_controls(page: Page, folder: Path) -> None:
    opened(page, folder, "#/blocks.10/42")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator(".unit-head nav").is_hidden()
    assert page.locator(".command button").is_hidden()
    colour = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert brightness(colour) == 255


def test_numbers_are_written_as_in_python(page: Page) -> None:
    values = [0.0, -0.001, -0.00001, 0.0123, 0.5, -0.999, 9.996, 12.34, 99.96, 1234.6, -2.0]
    shown = page.evaluate(f"() => {{ {asset('dom.js', 'gen_prior.atlas')}; return {values}.map(number); }}")
    assert [float(text.replace("−", "-")) for text in shown] == [float(short(value)) for value in values]
    assert shown[1] == "−0.001"
