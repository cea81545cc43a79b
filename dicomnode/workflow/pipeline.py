"""The durable queue: DBOS runs a work's stages and every try to deliver; nothing else of the house knows DBOS.

Workflow arguments and results are keys, counts, states and codes, in JSON. A step never raises: an exception's text
would be stored, and a text can hold a name. What a crash interrupts goes on at the step that it interrupted.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from dbos import DBOS, DBOSClient, EnqueueOptions, WorkflowStatus

from dicomnode.pulses import FAR_SECONDS, Pulse, Tries
from dicomnode.storage.database import Database, DatabaseEngine, after_commit, database_errors, taken_after_commit
from dicomnode.study import WORK_STAGES, WorkKey
from dicomnode.workflow.claims import Claims, run_by
from dicomnode.workflow.doorbell import Doorbell
from dicomnode.workflow.outlasting import Outlasting
from dicomnode.workflow.plain_json import JsonSerializer
from dicomnode.workflow.ports import STAT, DeliveryRunner, Revival, StageRunner
from dicomnode.workflow.queue_rows import DELAYED, UNDER_WAY, QueueRows
from dicomnode.workflow.standstill import Standstill

#: Raised only when steps change so that a half-done workflow of the old kind could not go on: those are begun anew.
WORKFLOW_SCHEMA: Final = "1"
_NAME: Final = "dicomnode"
_WORK: Final = "work"
_DELIVERY: Final = "delivery"
_FETCH: Final = "fetch"
#: Works whose priors are fetched at a time: they wait for other systems, not for this one.
_FETCHES: Final = 4
_EXECUTOR: Final = "node"
#: Seconds for one try to deliver: each object has time-outs of its own, and some are large while lines are slow.
_TRY_SECONDS: Final = 4 * FAR_SECONDS
#: Tries of a step whose ledger fails, within a minute; what is left then, the reconciler queues anew.
_ATTEMPTS: Final = 8
_AGAIN: Final = "-again-"
#: End of the identifier of a fetch: no name holds a colon, so no other work's begins or ends so.
_BEFORE: Final = "::fetch"
_SUCCESS: Final = "SUCCESS"
_GIVEN_UP: Final = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"


def forget_works(database: Database, study_key: str) -> None:
    """Delete all that DBOS keeps of a study's works and deliveries, in the ledger of a node that stands still.

    Raises
    ------
    StorageError
        ``ledger-failed``.
    """
    if not database.has_table("workflow_status"):  # no node was ever started on it
        return
    with database_errors():
        client = DBOSClient(system_database_engine=database.engine, serializer=JsonSerializer(), application_name=_NAME)
        found = client.list_workflows(workflow_id_prefix=study_key, load_input=False, load_output=False)
        if found:
            client.delete_workflows([one.workflow_id for one in found])


class DurableQueue:
    """Implements `ports.Queue` with DBOS in the ledger's own database.

    Parameters
    ----------
    engine
        Engine of the ledger.
    url
        Its URL, which DBOS wants to know as well.
    run_stage
        Runs one stage of a work and returns whether the next may follow; never raises.
    run_delivery
        Makes one try to deliver; never raises.
    urgency
        How urgent a study is now, by its key.
    fetches, run_fetch
        Whether a model's work begins with fetching what the study lacks, beside all other work; does it: it raises when the node ends, and is then
        done again by `revive_work`.
    concurrency
        Works at a time.
    fetch_seconds
        What a fetch gives itself.
    poll_seconds
        How often the queues are looked at; more seldom when they are at rest (`doorbell`).
    """

    def __init__(
        self,
        engine: DatabaseEngine,
        url: str,
        *,
        run_stage: StageRunner,
        run_delivery: DeliveryRunner,
        destinations: tuple[str, ...],
        urgency: Callable[[str], int],
        fetches: Callable[[str], bool] = lambda _: False,
        run_fetch: Callable[[WorkKey], None] = lambda _: None,
        concurrency: int = 1,
        fetch_seconds: float = 0.0,
        poll_seconds: float = 0.1,
    ) -> None:
        self._engine = engine
        self._destinations = destinations
        self._urgency = urgency
        self._fetches = fetches
        self._concurrency = concurrency
        self._poll = poll_seconds
        self._doorbell = Doorbell()
        self._claims = Claims()
        self._outlasting = Outlasting()
        self._standstill = Standstill({_WORK: concurrency, _FETCH: _FETCHES})
        self._tries = Tries("delivery", _TRY_SECONDS)
        self._retrievals = Tries("priors", fetch_seconds + FAR_SECONDS)
        logging.getLogger("dbos").setLevel(logging.CRITICAL)  # it would log exceptions with their text
        self._library = DBOS(
            config={
                "name": _NAME,
                "system_database_engine": engine,
                "system_database_url": url,
                "application_version": WORKFLOW_SCHEMA,
                "executor_id": _EXECUTOR,
                "log_level": "CRITICAL",
                "serializer": JsonSerializer(),
                "enable_otlp": False,
                "notification_listener_polling_interval_sec": poll_seconds,  # nothing is listened for: a stop waits so long
                "scheduler_polling_interval_sec": 3600.0,
            }
        )
        self._register(run_stage, run_delivery)
        self._register_fetch(run_fetch)
        self._client: DBOSClient | None = None

    def _register(self, run_stage: StageRunner, run_delivery: DeliveryRunner) -> None:
        @DBOS.step(name="stage")
        def stage(name: str, study_key: str, revision: int, model: str) -> bool:
            return run_stage(name, WorkKey(study_key=study_key, revision=revision, model=model))

        @DBOS.step(name="attempt", retries_allowed=True, interval_seconds=1.0, backoff_rate=1.5, max_attempts=_ATTEMPTS)
        def attempt(study_key: str, revision: int, model: str, destination: str, number: int) -> None:
            key = WorkKey(study_key=study_key, revision=revision, model=model)
            with self._tries.one(work=key.workflow_id, destination=destination):
                run_delivery(key, destination, number)

        @DBOS.workflow(name=_WORK, max_recovery_attempts=10)
        def work(study_key: str, revision: int, model: str) -> bool:
            with self._standstill.one(_WORK):
                is_done = all(stage(name, study_key, revision, model) for name in WORK_STAGES)
            self._doorbell.ring(_WORK)
            return is_done

        @DBOS.workflow(name=_DELIVERY, max_recovery_attempts=1000)
        def delivery(study_key: str, revision: int, model: str, destination: str, number: int) -> None:
            with self._standstill.one(f"{_DELIVERY}-{destination}"):
                attempt(study_key, revision, model, destination, number)
            self._doorbell.ring(f"{_DELIVERY}-{destination}")

        self._registered = (work, delivery)

    def _register_fetch(self, run_fetch: Callable[[WorkKey], None]) -> None:
        @DBOS.step(name="retrieve")
        def retrieve(study_key: str, revision: int, model: str) -> None:
            key = WorkKey(study_key=study_key, revision=revision, model=model)
            with self._retrievals.one(work=key.workflow_id):
                run_fetch(key)

        @DBOS.step(name="hand-on", retries_allowed=True, interval_seconds=1.0, backoff_rate=1.5, max_attempts=_ATTEMPTS)
        def hand_on(study_key: str, revision: int, model: str, priority: int) -> None:
            key = WorkKey(study_key=study_key, revision=revision, model=model)
            with self._transaction() as connection:
                self._enqueue_stages(connection, key, key.workflow_id, priority)
                self.bring_forward(connection, study_key, priority=self._urgency(study_key))

        @DBOS.workflow(name=_FETCH, max_recovery_attempts=10)
        def fetch(study_key: str, revision: int, model: str, priority: int) -> None:
            with self._standstill.one(_FETCH):
                retrieve(study_key, revision, model)
                hand_on(study_key, revision, model, priority)

        self._registered_fetch = fetch

    @database_errors()
    def launch(self) -> None:
        """Create what tables are missing, take up what a crash interrupted, and begin to work. Raises StorageError."""
        self._outlasting.begin()
        self._claims.hear()
        with self._doorbell.listening():
            DBOS.launch()
        self._client = DBOSClient(
            system_database_engine=self._engine, serializer=JsonSerializer(), application_name=_NAME
        )
        DBOS.register_queue(_WORK, worker_concurrency=self._concurrency, polling_interval_sec=self._poll)
        DBOS.register_queue(_FETCH, worker_concurrency=_FETCHES, polling_interval_sec=self._poll)
        for destination in self._destinations:
            DBOS.register_queue(f"{_DELIVERY}-{destination}", worker_concurrency=1, polling_interval_sec=self._poll)

    @property
    def pulses(self) -> Sequence[Pulse]:
        """Of the queues' threads, of what these are to bring about, and of what waits for other systems."""
        ours = self._doorbell, self._standstill, self._outlasting, self._tries, self._retrievals
        return tuple(pulse for one in ours for pulse in one.pulses)

    def look(self) -> None:
        """See whether what is due becomes ready, and what is ready begins: to be called again and again. Raises StorageError."""
        rows = self._rows()
        with database_errors(), self._engine.connect() as connection:
            due, queues = rows.due(connection), rows.ready(connection)
        self._standstill.look(due, queues)

    def take_up(self) -> list[tuple[str, str | None]]:
        """Put back what was taken out of a queue and is run by nobody: to be called once a minute. Raises StorageError.

        Returns
        -------
        Works (by the workflow's identifier), and the destination of what is a try to deliver.
        """
        rows, ours = self._rows(), self._claims.ours
        with database_errors(), self._engine.connect() as connection:
            claimed = rows.claimed(connection)
        back = list[str]()
        for name, token in self._claims.look(ours, claimed, run_by(self._library)):
            with database_errors(), self._engine.begin() as connection:
                back += [name] * rows.put_back(connection, name, token)
        return [_work_and_destination(name) for name in back]

    def _rows(self) -> QueueRows:
        return QueueRows(self._launched()._sys_db, WORKFLOW_SCHEMA)

    def close(self, timeout: float) -> None:
        """Take up nothing new, wait up to `timeout` seconds for steps that run, and let go of the database."""
        self._doorbell.end()
        DBOS.destroy(workflow_completion_timeout_sec=int(timeout), destroy_registry=True)
        self._client = None

    def enqueue_work(self, connection: Any, key: WorkKey, *, priority: int = 1) -> None:
        """Queue a work in the caller's transaction; those of a lower priority go first."""
        if self._fetches(key.model):
            self._enqueue_fetch(connection, key, f"{key.workflow_id}{_BEFORE}", priority)
        else:
            self._enqueue_stages(connection, key, key.workflow_id, priority)

    def _enqueue_fetch(self, connection: Any, key: WorkKey, name: str, priority: int) -> None:
        arguments = (key.study_key, key.revision, key.model, priority)
        self._enqueue(connection, _FETCH, _FETCH, name, arguments, priority=priority)

    def _enqueue_stages(self, connection: Any, key: WorkKey, name: str, priority: int) -> None:
        self._enqueue(connection, _WORK, _WORK, name, (key.study_key, key.revision, key.model), priority=priority)

    @database_errors()
    def revive_work(self, key: WorkKey, *, priority: int = 1) -> Revival:
        """Queue a work again that a stop of the node ended half-way; nothing happens while it is queued or under way."""
        again, before = f"{key.workflow_id}{_AGAIN}", f"{key.workflow_id}{_BEFORE}"
        found = self._workflows(key.workflow_id)
        fetches = [one for one in found if one.workflow_id.startswith(before)]
        tries = [one for one in found if one.workflow_id == key.workflow_id or one.workflow_id.startswith(again)]
        if self._is_under_way((*fetches, *tries)):
            return Revival.UNDER_WAY
        if any(one.status == _GIVEN_UP for one in (*fetches, *tries)):
            return Revival.GIVEN_UP
        is_fetched = not self._fetches(key.model) or any(one.status == _SUCCESS for one in fetches)
        with self._transaction() as connection:
            if is_fetched or tries:
                name = f"{again}{len(tries)}" if tries else key.workflow_id
                self._enqueue_stages(connection, key, name, priority)
            else:
                self._enqueue_fetch(connection, key, f"{before}{len(fetches) or ''}", priority)
        return Revival.QUEUED

    def _is_under_way(self, found: Sequence[WorkflowStatus]) -> bool:
        """Whether any is queued or under way. What is so under another schema nobody takes up here: it is ended, or it would run beside its successor if that version came back."""
        left = [one for one in found if one.status in UNDER_WAY]
        strange = [one.workflow_id for one in left if one.app_version != WORKFLOW_SCHEMA]
        if strange:
            self._launched().cancel_workflows(strange)
        return len(strange) < len(left)

    @database_errors()
    def forget(self, study_key: str) -> None:
        """Delete all that DBOS keeps of a study's works and deliveries."""
        if names := [one.workflow_id for one in self._workflows(study_key)]:
            self._launched().delete_workflows(names)

    def _workflows(self, prefix: str) -> list[WorkflowStatus]:
        return self._launched().list_workflows(workflow_id_prefix=prefix, load_input=False, load_output=False)

    def _launched(self) -> DBOSClient:
        if self._client is None:
            raise RuntimeError("the queue is not launched")
        return self._client

    def enqueue_delivery(
        self, connection: Any, key: WorkKey, destination: str, attempt: int, delay: float, *, priority: int = 1
    ) -> None:
        """Queue one try to deliver in the caller's transaction, not before `delay` seconds; the most urgent goes first."""
        arguments = (key.study_key, key.revision, key.model, destination, attempt)
        name = f"{_deliveries(key, destination)}{attempt}"
        queue = f"{_DELIVERY}-{destination}"
        self._enqueue(connection, _DELIVERY, queue, name, arguments, delay=delay, priority=priority)

    @database_errors()
    def revive_delivery(self, key: WorkKey, destination: str, *, priority: int = 1) -> bool:
        """Queue one more try to deliver, unless one is queued or under way; whether it did. One that waits runs at once."""
        prefix = _deliveries(key, destination)
        found = self._workflows(prefix)
        for one in found:
            if one.status == DELAYED:
                self._launched().set_workflow_delay(one.workflow_id, delay_until_epoch_ms=0)
        if self._is_under_way(found):
            return False
        number = 1 + max((int(one.workflow_id.removeprefix(prefix)) for one in found), default=0)
        with self._transaction() as connection:
            self.enqueue_delivery(connection, key, destination, number, 0.0, priority=priority)
        return True

    def bring_forward(self, connection: Any, study_key: str, *, priority: int) -> None:
        """Let what is queued of a study be as urgent as this, at least, in the caller's transaction; what is STAT then waits for no time of day.

        DBOS offers nothing for it: its own row is changed, as the contract of queues has it. What runs is changed, too:
        a stop puts it back into its queue.
        """
        self._rows().bring_forward(connection, study_key, priority=priority + 1, waits=priority != STAT)

    @database_errors()
    def deliveries(self) -> frozenset[tuple[str, str]]:
        """Works (by their workflow's identifier) and destinations of all tries that are queued or under way."""
        found = self._launched().list_workflows(
            status=sorted(UNDER_WAY), name=_DELIVERY, app_version=WORKFLOW_SCHEMA, load_input=False, load_output=False
        )
        names = [one.workflow_id.split(":") for one in found]
        return frozenset((parts[0], parts[1]) for parts in names if len(parts) > 1)

    @database_errors()
    def hasten(self, longest: float, destination: str | None = None) -> int:
        """Let tries that wait for more than `longest` seconds from now run at once; how many there were.

        DBOS keeps the time of day at which a try is due. It moves one only as long as that waits, and under its own
        identifier: none runs twice.
        """
        client, latest = self._launched(), (time.time() + longest) * 1000
        queue = None if destination is None else f"{_DELIVERY}-{destination}"
        waiting = client.list_workflows(
            status=DELAYED, name=_DELIVERY, queue_name=queue, load_input=False, load_output=False
        )
        late = [one for one in waiting if (one.delay_until_epoch_ms or 0) > latest]
        for one in sorted(late, key=lambda one: (one.priority or 0, one.created_at or 0)):
            client.set_workflow_delay(one.workflow_id, delay_until_epoch_ms=0)
        return len(late)

    def _enqueue(
        self,
        connection: Any,
        workflow: str,
        queue: str,
        workflow_id: str,
        arguments: tuple[Any, ...],
        *,
        delay: float = 0,
        priority: int | None = None,
    ) -> None:
        client = self._launched()
        options: EnqueueOptions = {
            "workflow_name": workflow,
            "queue_name": queue,
            "workflow_id": workflow_id,
            "app_version": WORKFLOW_SCHEMA,
        }
        if delay > 0:
            options["delay_seconds"] = delay
        if priority is not None:
            options["priority"] = priority + 1  # DBOS counts from 1
        client.enqueue_in_transaction(connection, options, *arguments)
        if delay <= 0:
            after_commit(connection, partial(self._doorbell.ring, queue))

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        with self._engine.begin() as connection:
            yield connection
            acts = taken_after_commit(connection)
        for act in acts:
            act()


def _deliveries(key: WorkKey, destination: str) -> str:
    """Beginning of the identifiers of all tries; no other work and destination share it: no name holds a colon."""
    return f"{key.workflow_id}:{destination}:"


def _work_and_destination(name: str) -> tuple[str, str | None]:
    """Of a workflow's identifier; None of the stages of a work and of what is fetched for it."""
    work, destination, *_ = [*name.split(":"), ""]
    return re.sub(rf"{_AGAIN}\d+$", "", work), destination or None
