"""What entries point at: people, folders, and registry or inventory objects with names."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandbox.simulator.clock import iso

if TYPE_CHECKING:
    from sandbox.simulator.identifiers import Identifiers
    from sandbox.simulator.wire import Json


@dataclass(frozen=True)
class Kind:
    """One type of link target: how its ids begin and where the API serves it."""

    link_type: str
    prefix: str
    path: str
    listing: str
    bulk_parameter: str | None
    documents_404: bool
    """Whether the operation that reads one documents 404; else an unknown id is a 400."""


KINDS: dict[str, Kind] = {
    kind.link_type: kind
    for kind in (
        Kind("user", "ent", "users", "users", None, documents_404=True),
        Kind("folder", "lib", "folders", "folders", None, documents_404=True),
        Kind("project", "src", "projects", "projects", None, documents_404=True),
        Kind("request", "req", "requests", "requests", "requestIds", documents_404=True),
        Kind("custom_entity", "bfi", "custom-entities", "customEntities", "customEntityIds", documents_404=False),
        Kind("aa_sequence", "prtn", "aa-sequences", "aaSequences", "aaSequenceIds", documents_404=False),
        Kind("dna_sequence", "seq", "dna-sequences", "dnaSequences", "dnaSequenceIds", documents_404=False),
        Kind("box", "box", "boxes", "boxes", "boxIds", documents_404=False),
        Kind("container", "con", "containers", "containers", "containerIds", documents_404=True),
        Kind("location", "loc", "locations", "locations", "locationIds", documents_404=True),
        Kind("plate", "plt", "plates", "plates", "plateIds", documents_404=True),
    )
}

UNREADABLE_PREFIXES = {
    "stage_entry": "etr",
    "protocol": "prtc",
    "workflow": "flow",
    "batch": "bat",
    "insights_dashboard": "axdsh",
    "sql_dashboard": "sqldsh",
}
"""Link types for which the simulator (like the API's read operations that matter here) has no name."""


def slug_of(name: str) -> str:
    """A name as it stands in web addresses."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "untitled"


@dataclass(frozen=True)
class Person:
    """A user of the tenant."""

    id: str
    name: str
    handle: str

    def summary(self) -> Json:
        """How other objects show the person."""
        return {"id": self.id, "name": self.name, "handle": self.handle}


@dataclass
class Named:
    """A registry or inventory object, as far as anyone here looks at it."""

    id: str
    kind: str
    name: str
    created_at: float
    modified_at: float


@dataclass
class Directory:
    """All link targets of the tenant."""

    tenant_url: str
    project_id: str = ""
    people: dict[str, Person] = field(default_factory=dict)
    objects: dict[str, Named] = field(default_factory=dict)

    def add_person(self, ids: Identifiers, name: str, handle: str) -> Person:
        """A new user."""
        person = Person(ids.next("ent"), name, handle)
        self.people[person.id] = person
        return person

    def add(self, ids: Identifiers, kind: str, name: str, now: float) -> Named:
        """A new object of a link type. Raises KeyError for a type that has no objects."""
        thing = Named(ids.next(KINDS[kind].prefix), kind, name, now, now)
        self.objects[thing.id] = thing
        return thing

    def web_url(self, kind: str, identifier: str) -> str | None:
        """Where a browser finds the object; locations have no such place."""
        if kind == "location":
            return None
        thing = self.objects.get(identifier)
        slug = "mentioned" if thing is None else slug_of(thing.name)
        return f"{self.tenant_url}/simulator/f/{identifier}-{slug}/edit"

    def whole(self, kind: str, identifier: str) -> Json | None:
        """The object as its own endpoint gives it; None if there is none of that kind."""
        if kind == "user":
            person = self.people.get(identifier)
            if person is None:
                return None
            return {**person.summary(), "email": f"{person.handle}@example.com", "isSuspended": False}
        thing = self.objects.get(identifier)
        if thing is None or thing.kind != kind:
            return None
        if kind == "folder":
            parent = {"parentFolderId": None, "projectId": self.project_id}
            return {"id": thing.id, "name": thing.name, "archiveRecord": None, **parent}
        if kind == "project":
            return {"id": thing.id, "name": thing.name, "archiveRecord": None}
        if kind == "request":
            return self._request(thing)
        body: Json = {
            "id": thing.id,
            "name": thing.name,
            "createdAt": iso(thing.created_at),
            "modifiedAt": iso(thing.modified_at),
            "archiveRecord": None,
            "fields": {},
            "schema": None,
        }
        if kind != "location":
            body["webURL"] = self.web_url(kind, thing.id)
        return body

    def _request(self, thing: Named) -> Json:
        """A request has a display id instead of a name."""
        return {
            "id": thing.id,
            "displayId": thing.name,
            "apiURL": f"{self.tenant_url}/api/v2/requests/{thing.id}",
            "webURL": self.web_url("request", thing.id),
            "createdAt": iso(thing.created_at),
            "requestStatus": "IN_PROGRESS",
            "fields": {},
            "assignees": [],
            "sampleGroups": [],
        }
