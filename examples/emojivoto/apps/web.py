"""The front end: a page and a JSON API for browsers and curl. Asks emoji and voting; holds no state."""

import base64
import hashlib
import os
import re
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

from service import Answer, Refusal, Request, call, choice_of, client_context, serve

HERE = Path(__file__).parent


def page(version: str) -> Answer:
    """The one page. Its script and style are named by hash, so the browser runs nothing else."""
    title = "Emoji Vote" if version == "v1" else f"Emoji Vote {version}"
    html = (HERE / "page.html").read_text(encoding="utf-8").replace("{{title}}", title)

    def source(tag: str) -> str:
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, flags=re.DOTALL)
        return "'sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() + "'"

    policy = (
        f"default-src 'none'; script-src {source('script')}; style-src {source('style')}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = (
        ("content-security-policy", policy),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
    )
    return Answer(html.encode(), "text/html; charset=utf-8", headers)


def main() -> None:
    emoji, voting = os.environ["EMOJI_ADDR"], os.environ["VOTING_ADDR"]
    version = (HERE / "version.txt").read_text(encoding="utf-8").strip()
    index, context = page(version), client_context()

    def found(choice: str) -> dict[str, object]:
        answer: dict[str, object] = call(emoji, "GET", f"/find?choice={quote(choice)}", context=context)
        if not answer["found"]:
            raise Refusal(HTTPStatus.NOT_FOUND, "unknown_emoji", f"{choice} is not in the catalogue; see /api/list")
        return answer

    def leaderboard() -> Answer:
        symbols = {item["shortcode"]: item["emoji"] for item in call(emoji, "GET", "/list", context=context)}
        results = call(voting, "GET", "/results", context=context)
        return Answer.json([{**item, "emoji": symbols.get(item["shortcode"], "?")} for item in results])

    def answer(request: Request) -> Answer:
        match request.method, request.path:
            case "GET", "/":
                return index
            case "GET", "/ready":
                call(emoji, "GET", "/list", context=context)
                call(voting, "GET", "/results", context=context)
                return Answer.json({"ready": True, "version": version})
            case "GET", "/api/list":
                return Answer.json(call(emoji, "GET", "/list", context=context))
            case "GET", "/api/leaderboard":
                return leaderboard()
            case "POST", "/api/vote":
                choice = choice_of(request)
                symbol = found(choice)["emoji"]
                counted = call(voting, "POST", f"/vote?choice={quote(choice)}", context=context)
                return Answer.json({**counted, "emoji": symbol})
            case _, "/" | "/ready" | "/api/list" | "/api/leaderboard" | "/api/vote":
                raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "wrong_method", "vote with POST, read with GET")
            case _:
                raise Refusal(HTTPStatus.NOT_FOUND, "not_found", "there is /, /api/list, /api/leaderboard, /api/vote")

    serve(answer, service="web", mutual=False)


if __name__ == "__main__":
    main()
