"""Settings: where they come from, and what is said of a bad one."""

from __future__ import annotations

import pytest

from rewind.daemon.settings import Settings, settings
from rewind.errors import BadConfiguration


def test_defaults() -> None:
    assert settings({}, {}) == Settings()
    assert Settings().incoming_bind == ("tcp://127.0.0.1:9090",)
    assert Settings().streaming_bind == ("tcp://127.0.0.1:9091",)
    assert Settings().topic_bind == ("tcp://127.0.0.1:9092",)
    assert Settings().gorewind_bind == ()


def test_an_option_beats_its_variable() -> None:
    environ = {"REWIND_STORE": "memory:", "REWIND_TOPIC_BIND": "tcp://127.0.0.1:1 ipc:///tmp/x"}
    assert settings({}, environ).store == "memory:"
    assert settings({}, environ).topic_bind == ("tcp://127.0.0.1:1", "ipc:///tmp/x")
    assert settings({"store": "log:x", "topic_bind": ("tcp://[::1]:2",)}, environ) == Settings(
        store="log:x", topic_bind=("tcp://[::1]:2",)
    )


def test_an_empty_list_disables_a_feed() -> None:
    assert settings({}, {"REWIND_STREAMING_BIND": ""}).streaming_bind == ()
    assert settings({"streaming_bind": ("",)}, {}).streaming_bind == ()


@pytest.mark.parametrize(
    ("options", "environ", "words"),
    [
        ({"incoming_bind": ("nonsense",)}, {}, "--incoming-bind=nonsense: not an endpoint"),
        ({}, {"REWIND_TOPIC_BIND": "tcp://127.0.0.1"}, "REWIND_TOPIC_BIND=tcp://127.0.0.1: not"),
        ({"topic_bind": ("tcp://127.0.0.1:70000",)}, {}, "port"),
        ({"topic_bind": ("udp://127.0.0.1:7",)}, {}, "not an endpoint"),
        ({"topic_bind": ("ipc://",)}, {}, "path"),
        ({"topic_bind": ("ipc:///" + "x" * 120,)}, {}, "path"),
        ({"incoming_bind": ("",)}, {}, "nobody can reach"),
        ({"max_event_bytes": "many"}, {}, "--max-event-bytes=many: not a whole number"),
        ({"max_event_bytes": "0"}, {}, "1 to"),
        ({}, {"REWIND_MAX_EVENT_BYTES": "99999999"}, "REWIND_MAX_EVENT_BYTES=99999999"),
        ({}, {"REWIND_LOG_LEVEL": "loud"}, "REWIND_LOG_LEVEL=loud: choose"),
        ({}, {"REWIND_INSECURE": "perhaps"}, "REWIND_INSECURE=perhaps"),
        ({}, {"REWIND_STORE": ""}, "REWIND_STORE is empty"),
    ],
)
def test_a_bad_value_is_named_with_where_it_came_from(
    options: dict[str, object], environ: dict[str, str], words: str
) -> None:
    with pytest.raises(BadConfiguration) as refused:
        settings(options, environ)
    assert words in str(refused.value)
