"""
Run sql/examples/*.sql on a fresh database and write what psql shows beside each, as *.sql.out.

    python -m tools.examples
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from local.database import create_database, migrate
from local.postgres import PostgresServer, local_postgres

EXAMPLES = Path(__file__).resolve().parent.parent / "sql" / "examples"


def run(server: PostgresServer, database: str, example: Path) -> str:
    """Return what psql shows for one example, statements included."""
    shown = subprocess.run(  # noqa: S603 - the server's own psql
        [
            server.bins / "psql",
            "--no-psqlrc",
            "--quiet",
            "--echo-all",
            "--set=ON_ERROR_STOP=1",
            f"--file={example}",
            server.url("postgres", database),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout


def main() -> int:
    """Write the output of every example."""
    with local_postgres(durable=False) as server:
        create_database(server, "examples")
        migrate(server.url("postgres", "examples"))
        for example in sorted(EXAMPLES.glob("*.sql")):
            example.with_suffix(".sql.out").write_text(run(server, "examples", example))
    return 0


if __name__ == "__main__":
    sys.exit(main())
