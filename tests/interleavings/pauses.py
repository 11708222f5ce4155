"""
Pause points inside the ledger's functions, so that a driver can let them go on statement by statement.

A call of a PL/pgSQL function is one statement for its client, but inside each of its statements sees a snapshot of its
own: that is where orders differ. So each function of a throw-away database is replaced by a copy of its own text in
which `interleavings.pause('name:n statement')` stands before every statement that touches the database. A session that
is not driven passes a pause without noticing it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.database import Connection, TestDatabase

SETUP = """
create schema interleavings authorization postgres;
grant usage on schema interleavings to holdfast_backend;

create function interleavings.pause(p_step text) returns boolean language plpgsql as $$
declare
  v_session integer := nullif(current_setting('interleavings.session', true), '');
  v_number integer := nullif(current_setting('interleavings.number', true), '');
begin
  if v_session is not null then
    perform set_config('interleavings.number', (v_number + 1)::text, false);
    raise notice '%', p_step;
    -- the driver holds this lock until it wants the step to be done
    perform pg_advisory_lock(v_session, v_number);
    perform pg_advisory_unlock(v_session, v_number);
  end if;
  return true;
end $$;

create function interleavings.begin(p_clock timestamptz, p_session integer default null) returns void
  language sql as $$
  select set_config('interleavings.clock', p_clock::text, false),
         set_config('interleavings.session', coalesce(p_session::text, ''), false),
         set_config('interleavings.number', '0', false)
$$;

-- the driver's side of a pause: it takes the lock of the next one before it gives up this one's
create function interleavings.let_go(p_session integer, p_number integer, p_to_the_end boolean) returns void
  language plpgsql as $$
begin
  if not p_to_the_end then
    perform pg_advisory_lock(p_session, p_number + 1);
  end if;
  perform pg_advisory_unlock(p_session, p_number);
end $$;

-- time is a setting of the session: one caller may still live before an expiry that another has seen
create or replace function ledger.clock() returns timestamptz
  language sql stable security definer set search_path = ''
as $$ select coalesce(nullif(current_setting('interleavings.clock', true), '')::timestamptz, now()) $$;

grant execute on all functions in schema interleavings to holdfast_backend;
"""

FUNCTIONS = """
select p.proname as name, l.lanname as language, pg_get_functiondef(p.oid) as definition
  from pg_proc p join pg_language l on l.oid = p.prolang
 where p.pronamespace = 'ledger'::regnamespace and p.provolatile = 'v' and p.prorettype <> 'trigger'::regtype
"""

TOKEN = re.compile(r"--[^\n]*|'(?:[^']|'')*'|\w+|\s+|.", re.DOTALL)
HEADER_ENDS = {"if": "then", "elsif": "then", "for": "loop", "while": "loop"}
OPENERS = {"else", "loop", "begin"}
TOUCHES_DATABASE = r"\b(?:select|insert|update|delete|pg_current_snapshot)\b"


def install(database: TestDatabase) -> None:
    """Put pauses into every function of schema `ledger` in a throw-away database."""
    admin = database.connection("supabase_admin")
    admin.execute(SETUP)
    refresh(admin)


def refresh(admin: Connection) -> None:
    """Put pauses into the functions that have none yet, as after a test replaced one."""
    functions = admin.execute(FUNCTIONS).fetchall()
    # a call of a function in SQL is one step; one in PL/pgSQL has steps of its own
    calls = [rf"\bledger\.{each['name']}\(" for each in functions if each["language"] == "sql"]
    touches_database = re.compile("|".join([TOUCHES_DATABASE, *calls]))
    for each in functions:
        if each["language"] == "plpgsql" and "interleavings.pause" not in each["definition"]:
            paused = with_pauses(each["name"], each["definition"], touches_database)
            admin.execute(paused.encode())


def with_pauses(name: str, definition: str, touches_database: re.Pattern[str]) -> str:
    """Return a function's definition with a pause before each statement that matches."""
    head, body, tail = re.split(
        r"(?<=\$function\$)(.*)(?=\$function\$)", definition, flags=re.DOTALL
    )
    declarations, begin, code = re.split(r"^(begin)$", body, maxsplit=1, flags=re.MULTILINE)
    parts = [head, declarations, begin]
    for number, statement in enumerate(statements(code)):
        text = " ".join(re.sub(r"--[^\n]*", "", statement).split())
        if touches_database.search(text):
            if text.startswith("elsif"):
                raise ValueError(f"{name}: no pause fits before {text}")
            table = re.search(r"\b(?:public|ledger)\.\w+", text)
            step = f"{name}:{number} {text.split()[0]} {table[0] if table else ''}"
            parts.append(f"\n  assert interleavings.pause('{step}');")  # leaves FOUND alone
        parts.append(statement)
    return "".join([*parts, tail])


def statements(code: str) -> Iterator[str]:
    """Split PL/pgSQL into statements; what opens a block (`if ... then`, `else`) stands alone."""
    text, first, end = "", "", ";"
    for token in TOKEN.findall(code):
        text += token
        if not first and re.match(r"\w", token):
            first, end = token, HEADER_ENDS.get(token, ";")
        if token == end or first in OPENERS:
            yield text
            text, first, end = "", "", ";"
    yield text
