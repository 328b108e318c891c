"""The docs page loads nothing from another host."""

import re

from tests.service.serving import Served

ATTRIBUTE = re.compile(r"""(?:src|href)\s*=\s*["']([^"']+)["']""")
STYLE_URL = re.compile(r"""url\(\s*["']?([^"')]+)""")


async def test_the_docs_page_and_all_its_assets_come_from_the_service_itself(served: Served) -> None:
    page = await served.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "://" not in page.text
    assets = ATTRIBUTE.findall(page.text)
    assert len(assets) == 3, "a style sheet, a script, an icon"
    for asset in assets:
        assert asset.startswith("/")
        assert not asset.startswith("//")
        found = await served.get(asset)
        assert found.status_code == 200
        assert found.content


async def test_the_style_sheet_loads_nothing_more(served: Served) -> None:
    page = await served.get("/docs")
    (sheet,) = [asset for asset in ATTRIBUTE.findall(page.text) if asset.endswith(".css")]
    text = (await served.get(sheet)).text
    assert "@import" not in text
    assert all(target.startswith("data:") for target in STYLE_URL.findall(text))


async def test_the_page_shows_the_document_of_this_service_in_a_layout_without_the_online_validator(
    served: Served,
) -> None:
    page = await served.get("/docs")
    assert "url: '/openapi.json'" in page.text
    assert '"layout": "BaseLayout"' in page.text, "StandaloneLayout asks validator.swagger.io about the document"


async def test_the_document_names_no_host(served: Served) -> None:
    assert "://" not in (await served.get("/openapi.json")).text
