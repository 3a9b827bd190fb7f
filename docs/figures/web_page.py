"""Takes a picture of the page of `sagan export --formats web`, with the pointer over the image.

    sagan export --pretrained cifar10 --out exported --formats web
    PYTHONPATH=tests python docs/figures/web_page.py exported/web page.png --fragment "seed=3&class=7"

Needs Chromium and playwright, as the tests of the page do.
"""

import argparse

from browser import launched, opened_page, static_server


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", help="the exported page")
    parser.add_argument("out", help="PNG file")
    parser.add_argument("--fragment", default="seed=0", help="state of the page, as in its address")
    options = parser.parse_args()
    with static_server(options.folder) as address, launched() as browser, opened_page(browser, 1000, 910) as page:
        page.goto(f"{address}#{options.fragment}")
        page.wait_for_selector("#gallery > :last-child", timeout=60_000)
        page.wait_for_timeout(5_000)  # the rest of the next seeds
        page.hover("#overlay", position={"x": 220, "y": 260})
        page.wait_for_timeout(1_000)
        page.screenshot(path=options.out)


if __name__ == "__main__":
    main()
