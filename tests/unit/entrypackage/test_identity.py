"""Names: valid for the API server whatever the id, and different for different ids."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypackage.identity import destination_hash, job_name, object_name

DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
UID = "01234567-89ab-cdef-0123-456789abcdef"


@pytest.mark.parametrize(
    ("exact_id", "name"),
    [
        ("etr_Ab12", "etr-ab12-b416b3"),
        ("etr_AB12", "etr-ab12-3a67bd"),
        ("etr__Ab12", "etr-ab12-a0460a"),
        ("ETR.Ab/12", "etr-ab-12-515a4e"),
        ("-etr_1-", "etr-1-e1bb15"),
        ("___", "id-bda251"),
        ("", "id-e3b0c4"),
        ("étr_ß", "tr-90d7a5"),
        ("日本", "id-cf2abf"),
    ],
)
def test_known_names_stay(exact_id: str, name: str) -> None:
    assert object_name(exact_id) == name


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=600))
def test_every_id_has_a_valid_name(exact_id: str) -> None:
    name = object_name(exact_id)
    assert DNS_SUBDOMAIN.fullmatch(name)
    assert len(name) <= 253


def test_case_and_length_tell_names_apart() -> None:
    ids = ["etr_abc", "etr_Abc", "etr_aBc", "x" * 300, "x" * 301, "x" * 246 + "-y", "x" * 246 + "-z"]
    assert len({object_name(exact_id) for exact_id in ids}) == len(ids)


@given(st.text(), st.text())
def test_a_destination_is_a_label_value(bucket: str, package: str) -> None:
    assert LABEL_VALUE.fullmatch(destination_hash(bucket, package))


def test_jobs_carry_uid_attempt_and_digest_within_63_characters() -> None:
    digest = "f" * 64
    assert job_name(UID, 7, digest) == "epkg-0123456789abcdef-a7-ffffffffff"
    assert len(job_name(UID, 10**12, digest)) <= 59
