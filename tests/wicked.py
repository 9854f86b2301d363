"""A suite of two sub-apps whose tables are as hard to make in halves as can be, on every kind of database."""

from tests.distributions import Site

HENS = """
    import sqlalchemy as sa
    from opal_registry import Base

    kind = sa.Enum("bantam", "leghorn", name="breed")
    hens = sa.Table(
        "hens", Base.metadata,
        sa.Column("id", sa.Integer, sa.Sequence("hen_numbers", start=100), primary_key=True),
        sa.Column("ring", sa.String(20), nullable=False, unique=True),
        sa.Column("breed", kind, server_default="bantam"),
        sa.Column("from_egg", sa.ForeignKey("eggs.id", use_alter=True, name="hen_from_egg")),
        sa.Column("keeper", sa.ForeignKey("users.id"), index=True),
        sa.Index("hens_by_breed", "breed", "ring"),
    )
    sa.Table(
        "eggs", Base.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("laid_by", sa.ForeignKey("hens.id", use_alter=True, name="egg_laid_by")),
        sa.Column("grams", sa.Numeric(5, 1)),
        sa.CheckConstraint("grams > 0", name="eggs_weigh_something"),
        sa.UniqueConstraint("id", "laid_by", name="one_hen_an_egg"),
    )

    BODY = " AFTER INSERT ON hens FOR EACH ROW "
    for dialects, text in (
        ("sqlite", "CREATE TRIGGER count_hens" + BODY + "BEGIN UPDATE hens SET ring = ring || '!' WHERE id = new.id; END"),
        (("mysql", "mariadb"), "CREATE TRIGGER count_hens" + BODY + "SET @hens = NEW.id"),
        ("postgresql", "CREATE FUNCTION nod() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$"),
        ("postgresql", "CREATE TRIGGER count_hens" + BODY + "EXECUTE FUNCTION nod()"),
        (None, "CREATE VIEW rings AS SELECT ring FROM hens"),
    ):
        ddl = sa.DDL(text.replace("%", "%%"))
        sa.event.listen(hens, "after_create", ddl.execute_if(dialect=dialects) if dialects else ddl)
"""
HEN_HOOKS = """
    import sqlalchemy as sa

    @hookimpl
    def opal_tables_created(connection, sub_app, tables):
        connection.execute(sa.text("INSERT INTO hens (id, ring) VALUES (1, 'first')"))

    @hookimpl
    def opal_seed(session, sub_app):
        if session.scalar(sa.text("SELECT count(*) FROM hens WHERE id = 2")) == 0:
            session.execute(sa.text("INSERT INTO hens (id, ring) VALUES (2, 'second')"))
"""
FOXES = """
    import sqlalchemy as sa
    from opal_registry import Base

    sa.Table(
        "foxes", Base.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("wants", sa.ForeignKey("hens.id"), index=True),
        sa.Column("mood", sa.Enum("sly", "slyer", name="mood"), nullable=False),
        sa.Column("den", sa.String(30), sa.Computed("'den'", persisted=True), comment="it's 100% theirs"),
    )
"""
SUITE = ("core", "henhouse", "woods")
"""The sub-apps, in order."""


def install(site: Site) -> None:
    """Install the two: hens and eggs refer to each other, and what foxes want and like is the hens'."""
    site.sub_app("henhouse", HENS, requires=("core",), hooks=HEN_HOOKS)
    site.sub_app("woods", FOXES, requires=("henhouse",))


__all__ = ["SUITE", "install"]
