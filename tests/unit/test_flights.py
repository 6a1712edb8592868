"""Windows that wait for the same image are settled together."""

import pyarrow as pa

from imgtag_pipeline.model import Image
from imgtag_pipeline.run.batches import cut
from imgtag_pipeline.run.in_flight import InFlight
from imgtag_pipeline.run.report import Tally

A = Image("a", "a")


def window_of(*urls):
    urls = pa.array(urls)
    return cut(pa.record_batch({"url": urls}), urls, None, str)


def test_an_image_in_flight_is_joined_not_asked_again():
    """Two windows with one image: one flight, and both are complete when it lands."""
    flights, first, second = InFlight(Tally()), window_of("a"), window_of("a")
    assert not flights.join(A, first)
    flights.begin(A, first)
    assert flights.join(A, second)
    flights.land("a")
    assert first.is_complete.is_set()
    assert second.is_complete.is_set()
    assert "a" not in flights


def test_what_is_given_up_is_counted_once_and_marked():
    """An image that will not be asked about leaves its windows complete, and unanswered."""
    tally = Tally()
    flights, window = InFlight(tally), window_of("a", "b")
    for image in window.images:
        flights.begin(image, window)
    flights.give_up(window.images)
    flights.give_up(window.images)
    assert tally.unanswered == 2
    assert window.unanswered == {"a", "b"}
    assert window.is_complete.is_set()


def test_what_somebody_else_asked_counts_as_known():
    """Another process has answered: the window knows it without a call."""
    flights, window = InFlight(Tally()), window_of("a")
    flights.begin(A, window)
    flights.land("a", is_known=True)
    assert window.known == {"a"}


def test_references_of_an_image_in_flight_are_kept_while_it_flies():
    """What a later window calls the image by can be tried in its place; named keys have one reference only."""
    flights = InFlight(Tally())
    flights.begin(A, window_of("a"))
    flights.join(Image("a", "b"), window_of("a"))
    assert flights.another("a", {"a"}) == "b"
    assert flights.another("a", {"a", "b"}) is None
    flights.land("a")
    assert flights.another("a", set()) is None
