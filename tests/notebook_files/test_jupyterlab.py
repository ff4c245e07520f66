"""A user's first minutes: JupyterLab in a browser, the quickstart, "Run All Cells"."""

import contextlib
import importlib
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest

from notebooks.build import kernel_environment, read_source

SECONDS = 240  # from the click to the last output
START_SECONDS = 90
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
pytestmark = pytest.mark.slow


@pytest.fixture
def chromium():
    """The path of a browser; skips the test without one or without its packages."""
    for package in ("jupyterlab", "playwright"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"no {package}: pip install 'clipin_jax[browser]'")
    if not (found := next(filter(None, map(shutil.which, BROWSERS)), None)):
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    return found


@pytest.fixture
def lab(tmp_path, repository, monkeypatch):
    """The address of a JupyterLab in a folder with the quickstart, without outputs."""
    (folder := tmp_path / "lab").mkdir()
    nbformat.write(read_source("quickstart"), folder / "quickstart.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = kernel_environment() | {
        "PYTHONPATH": f"{repository}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
    }
    # A user's kernel has neither the eight devices nor the compiler settings of tests.
    for name in ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    options = [
        f"--port={port}",
        "--IdentityProvider.token=",
        f"--notebook-dir={folder}",
    ]
    with open(tmp_path / "lab.log", "w") as log:
        server = subprocess.Popen(
            [*command, *options], env=environment, stdout=log, stderr=log
        )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(f"{address}/api")
        yield address
    finally:
        server.terminate()
        server.wait(30)


def wait_for(url):
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        time.sleep(0.5)
    pytest.fail(f"JupyterLab does not answer within {START_SECONDS} s")


def test_quickstart_learns_in_a_browser(chromium, lab, tmp_path):
    sync_api = importlib.import_module("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1300, "height": 8500})
        page.set_default_timeout(START_SECONDS * 1000)
        page.goto(f"{lab}/lab/tree/quickstart.ipynb")
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        page.locator(".jp-Notebook .jp-CodeCell").first.click()
        page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Run$")).click()
        page.locator('li[data-command="runmenu:run-all"]').click()
        page.locator('.jp-Notebook-ExecutionIndicator[data-status="busy"]').wait_for()
        started = time.monotonic()
        picture = page.locator(".jp-Notebook .jp-CodeCell").last.locator("img")
        failure = page.get_by_text("Traceback (most recent call last)").first
        picture.or_(failure).wait_for(timeout=SECONDS * 1000)
        print(f"quickstart: {time.monotonic() - started:.0f} s")
        page.screenshot(path=os.environ.get("SCREENSHOT", str(tmp_path / "lab.png")))
        charts = page.locator(".jp-OutputArea-output .clipin-jax svg").count()
        text = page.locator(".jp-Notebook").inner_text()
        browser.close()
    assert charts >= 2
    assert "Traceback" not in text
    [recall] = re.findall(r"mean_recall\s+([\d.]+)\s*%", text)[-1:]
    assert float(recall) > 10  # by chance 1.2
