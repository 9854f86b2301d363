"""A hot standby of a throwaway PostgreSQL server, which can be promoted."""

from tests.postgres import Cluster, make_reachable


class Standby(Cluster):
    """A copy of a running server that follows it through a replication slot.

    Args:
        primary: The server that it follows.
    """

    def __init__(self, primary: Cluster) -> None:
        self._primary = primary
        super().__init__(primary.major)
        self.title = f"standby of {primary.title}"

    def promote(self) -> None:
        """Make it a primary, and wait until it is one."""
        self.program("pg_ctl", "promote", "-D", self.data, "-w")

    def _initialise(self) -> None:
        self.binaries = make_reachable(self.binaries, self._account, self.folder)
        source = ("-h", "127.0.0.1", "-p", str(self._primary.port), "-U", "postgres")
        slot = ("-C", "-S", f"slot_{self.folder.name.replace('-', '_').lower()}")
        self.program("pg_basebackup", *source, "-D", self.data, "-R", "-X", "stream", "-c", "fast", "--no-sync", *slot)
        with (self.data / "postgresql.conf").open("a") as config:
            config.write(f"unix_socket_directories = '{self.folder}'\n")

    def _answers(self) -> bool:
        lines = self._pid_lines()
        return len(lines) > 7 and lines[7].strip() in {"ready", "standby"}


__all__ = ["Standby"]
