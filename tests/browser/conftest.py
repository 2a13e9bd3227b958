"""A Chromium without a screen. Its screenshots go to docs/ with TELAS=docs, otherwise to a temporary folder."""

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")  # of the system; else the one playwright installed


@pytest.fixture(scope="session")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    arguments = ["--no-sandbox"] if os.getuid() == 0 else []  # Chromium's sandbox does not work for root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1100, "height": 900}, locale="pt-BR")
    page.set_default_timeout(30_000)
    yield page
    page.close()


@pytest.fixture
def screens(tmp_path) -> Path:
    return Path(os.environ.get("TELAS", tmp_path))
