"""Swagger UI and ReDoc in a real browser, by files of the package alone, under their policy."""

from __future__ import annotations

import pytest

from tests.browser.chromium import Page
from tests.http.kit import ALICE, TWO_KEYS, opened

pytestmark = pytest.mark.browser


@pytest.mark.slow
async def test_both_pages_show_the_api_and_swagger_calls_it(page: Page, sandbox, tmp_path):
    async with opened(sandbox, tmp_path / "bot", TWO_KEYS) as api:
        await page.open(f"{api.url}/docs/swagger")
        await page.until("document.body.innerText.includes('/v1/images/edits')")
        await page.js("document.querySelector('.btn.authorize').click()")
        field = "document.querySelector('.auth-container input')"
        await page.until(f"!!{field}")
        await page.js(f"{field}.focus()")
        await page.type(ALICE)
        await page.js("document.querySelector('.auth-btn-wrapper .authorize').click()")
        await page.js("document.querySelector('.auth-btn-wrapper .btn-done').click()")
        models = "document.querySelector('[id$=list_models]')"
        await page.js(f"{models}.querySelector('.opblock-summary-control').click()")
        for button in (".try-out__btn", ".execute"):
            await page.until(f"!!{models}.querySelector('{button}')")
            await page.js(f"{models}.querySelector('{button}').click()")
        await page.until(f'{models}.innerText.includes(\'"id": "tiny"\')')
        assert page.problems == []
        await page.open(f"{api.url}/docs/redoc")
        await page.until("document.body.innerText.includes('/api/v1/images/generate')")
        # ReDoc wants its maker's mark from elsewhere: the policy keeps the browser from asking.
        asked = "performance.getEntriesByType('resource').map((one) => one.name)"
        elsewhere = {one for one in await page.js(asked) if not one.startswith(api.url)}
        refused = [one for one in page.problems if "Content Security Policy" in one]
        for name in elsewhere:
            assert any(name in one for one in refused), (name, page.problems)
        page.problems = [one for one in page.problems if one not in refused]
