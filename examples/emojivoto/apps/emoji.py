"""The catalogue: which emoji there are. Internal; answers only clients whose mesh certificate names them."""

import re
from http import HTTPStatus
from pathlib import Path

from service import Answer, Refusal, Request, allow_only, allowed_clients, choice_of, serve


def catalogue() -> dict[str, str]:
    """Shortcode to emoji, in the order of catalogue.txt."""
    text = Path(__file__).with_name("catalogue.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^(:\S+:) (\S+)$", text, flags=re.MULTILINE))


def main() -> None:
    known, clients = catalogue(), allowed_clients()

    def answer(request: Request) -> Answer:
        allow_only(request, clients)
        match request.method, request.path:
            case "GET", "/list":
                return Answer.json([{"shortcode": code, "emoji": emoji} for code, emoji in known.items()])
            case "GET", "/find":
                choice = choice_of(request)
                if choice not in known:
                    return Answer.json({"found": False})
                return Answer.json({"found": True, "shortcode": choice, "emoji": known[choice]})
            case _:
                raise Refusal(HTTPStatus.NOT_FOUND, "not_found", "this service knows /list and /find")

    serve(answer, service="emoji", mutual=True)


if __name__ == "__main__":
    main()
