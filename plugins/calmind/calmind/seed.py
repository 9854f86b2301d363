"""What a new installation starts with. Rows that are there already are left as they are."""

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from calmind.models import CalmExercise, CalmFeeling, ExerciseKind

EXERCISES = (
    ("box-breathing", "Box breathing", ExerciseKind.BREATHING, 240, "In for four, hold, out for four, hold. Repeat."),
    ("body-scan", "Body scan", ExerciseKind.BODY_SCAN, 600, "Go from your feet to your head, and let go on the way."),
    ("five-minutes-outside", "Five minutes outside", ExerciseKind.WALK, 300, "Leave the phone on the desk."),
)
FEELINGS = {"anxious": -1, "tired": -1, "irritated": -1, "calm": 1, "content": 1, "curious": 1, "focused": 0}


def add_exercises_and_feelings(session: sa_orm.Session) -> None:
    slugs = set(session.scalars(sa.select(CalmExercise.slug)))
    for slug, title, kind, seconds, instructions in EXERCISES:
        if slug not in slugs:
            session.add(
                CalmExercise(slug=slug, title=title, kind=kind, duration_seconds=seconds, instructions=instructions)
            )
    names = set(session.scalars(sa.select(CalmFeeling.name)))
    session.add_all(CalmFeeling(name=name, valence=n) for name, n in FEELINGS.items() if name not in names)
