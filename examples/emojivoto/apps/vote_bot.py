"""A citizen who never sleeps: votes through the web front end, like any browser would, until it is told to stop."""

import os
import random
import signal
from urllib.parse import quote

from service import PeerError, call, client_context, log

FAVOURITE = ":doughnut:"
STOPS = {signal.SIGTERM, signal.SIGINT}


def main() -> None:
    web = os.environ["WEB_ADDR"]
    seconds = int(os.environ.get("VOTE_INTERVAL_MS", "500")) / 1000
    favourite_share = float(os.environ.get("FAVOURITE_SHARE", "0.15"))
    # Taken between two votes, and by no handler: one that interrupts what it wakes may wait for itself for ever.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    context = client_context()
    log("started", service="vote-bot", web=web)
    choices: list[str] = []
    while True:
        try:
            if not choices:
                choices = [item["shortcode"] for item in call(web, "GET", "/api/list", context=context)]
            choice = FAVOURITE if random.random() < favourite_share else random.choice(choices)
            counted = call(web, "POST", f"/api/vote?choice={quote(choice)}", context=context)
            log("voted", choice=choice, votes=counted["votes"])
        except PeerError as error:
            log("vote_failed", detail=str(error))
        if signal.sigtimedwait(STOPS, seconds) is not None:
            break
    log("stopped", service="vote-bot")


if __name__ == "__main__":
    main()
