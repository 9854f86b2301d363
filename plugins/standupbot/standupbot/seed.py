"""What a new installation starts with."""

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from standupbot.models import StandupQuestion, StandupTeam

FIRST_TEAM = "everybody"
FIRST_QUESTIONS = ("What did you finish?", "What comes next?", "What is in your way?")


def add_first_team(session: sa_orm.Session) -> None:
    """Add a team with the three classic questions, unless there is a team: who renamed it does not get it again."""
    if session.scalar(sa.select(StandupTeam.id).limit(1)) is not None:
        return
    questions = [StandupQuestion(position=n, text=text) for n, text in enumerate(FIRST_QUESTIONS, start=1)]
    session.add(StandupTeam(name=FIRST_TEAM, questions=questions))
