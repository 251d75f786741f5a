"""Several engines of one model, each in a process and on GPUs of its own, fed from one queue.

A worker that dies is started again, and what it had not answered is asked of the others meanwhile.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from queue import Queue
from typing import Any
from zlib import crc32

from usermirrorer.console import warn
from usermirrorer.errors import StepFailed, UserError
from usermirrorer.llm.execution import weight
from usermirrorer.llm.requests import Answer, Request, Usage
from usermirrorer.steps import EngineSettings


MOST_STARTS = 3
"""Starts of one worker, the first included, before the work fails."""


@dataclass
class _Worker:
    """One process and what it has been asked."""

    number: int
    process: Any
    connection: Connection
    starts: int = 1
    slots: int = 0
    """0 until it is ready"""
    asked: dict[int, Request] = field(default_factory=dict)
    busy: int = 0


class WorkerPool:
    """A session over all workers."""

    def __init__(self, path: str, settings: EngineSettings) -> None:
        self.path, self.settings = path, settings
        self.devices = _devices(settings)
        self.inbox: Queue[tuple[_Worker, Any]] = Queue()
        self.usage = Usage()
        self.unasked: list[tuple[int, Request]] = []
        self.round = 0
        self.workers = [self._start(number, 1) for number in range(settings.data_parallel_size)]
        while not all(worker.slots for worker in self.workers):
            self._receive()
        self.slots = sum(worker.slots for worker in self.workers)

    def prepare(self, requests: Sequence[Request]) -> Sequence[Request]:
        """The requests themselves: the workers tokenise them."""
        return requests

    def submit(self, key: int, prepared: Any) -> None:
        """Ask the worker that has seen the scene, unless another has far less to do."""
        ready = [worker for worker in self.workers if worker.slots]
        if not ready:
            self.unasked.append((key, prepared))
            return
        home = self.workers[crc32(_prompt(prepared)) % len(self.workers)]
        idlest = min(ready, key=lambda worker: worker.busy)
        chosen = home if home.slots and home.busy < idlest.busy + home.slots // 4 else idlest
        chosen.asked[key] = prepared
        chosen.busy += weight(prepared)
        try:
            chosen.connection.send((self.round, [(key, prepared)]))
        except OSError:
            pass  # it has died: its reader says so, and the request is asked again

    def collect(self) -> list[tuple[int, Answer | Exception]]:
        while not (answers := self._receive()):
            pass
        return answers

    def close(self) -> None:
        """Forget what is asked: answers of an earlier round are dropped as they come."""
        self.round += 1
        self.unasked.clear()
        for worker in self.workers:
            worker.asked.clear()
            worker.busy = 0
            if worker.slots:
                try:
                    worker.connection.send((self.round, []))
                except OSError:
                    pass

    def shut(self) -> None:
        """End the processes."""
        for worker in self.workers:
            worker.connection.close()
        for worker in self.workers:
            worker.process.join(10)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def _receive(self) -> list[tuple[int, Answer | Exception]]:
        """The answers in the next message of a worker; none if it says something else."""
        worker, message = self.inbox.get()
        if worker is not self.workers[worker.number]:
            return []  # the last words of one that has been replaced
        if message is None:
            self._replace(worker)
            return []
        kind, *content = message
        if kind == "ready":
            worker.slots = content[0]
            waiting, self.unasked = self.unasked, []
            for key, request in waiting:
                self.submit(key, request)
            return []
        if kind == "error":
            raise (UserError if content[0] else StepFailed)(content[1])
        asked_in, answers, usage = content
        if asked_in != self.round:
            return []
        self.usage.add_all(Usage(*usage))
        for key, _ in answers:
            worker.busy -= weight(worker.asked.pop(key))
        return answers

    def _replace(self, dead: _Worker) -> None:
        """Start a worker in the place of a dead one, and ask what that had not answered again."""
        dead.process.join()
        what = f"engine {dead.number + 1} of {self.path} (process {dead.process.pid}) died ({_cause(dead.process)})"
        if dead.starts == MOST_STARTS:
            raise StepFailed(f"{what} for the {MOST_STARTS}rd time: see its messages above; what is done is kept")
        warn(f"{what}: its {len(dead.asked):,} requests are asked again")
        self.workers[dead.number] = self._start(dead.number, dead.starts + 1)
        for key, request in dead.asked.items():
            self.submit(key, request)

    def _start(self, number: int, starts: int) -> _Worker:
        ours, theirs = get_context("spawn").Pipe()
        threads = max(1, (os.cpu_count() or 1) // self.settings.data_parallel_size)
        arguments = (theirs, self.path, replace(self.settings, data_parallel_size=1), self.devices[number], threads)
        process = get_context("spawn").Process(target=_work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        worker = _Worker(number, process, ours, starts)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        return worker

    def _listen(self, worker: _Worker) -> None:
        """Take a worker's messages as they come, so that it never waits to be heard."""
        while True:
            try:
                self.inbox.put((worker, worker.connection.recv()))
            except Exception:  # it died, perhaps in the middle of a message
                self.inbox.put((worker, None))
                return


def _work(connection: Connection, path: str, settings: EngineSettings, devices: str | None, threads: int) -> None:
    """A worker's process: answers requests until the connection ends, with the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for the process that started it
    if devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    os.environ["OMP_NUM_THREADS"] = str(threads)
    from usermirrorer.llm.engines.vllm import VLLMModel, VLLMSession

    try:
        session = VLLMSession(VLLMModel(path, settings))
        connection.send(("ready", session.slots))
        asked_in = 0
        while True:
            while not session.asked or connection.poll():
                number, requests = connection.recv()
                if number != asked_in:
                    session.close()
                    asked_in = number
                keys = [key for key, _ in requests]
                prepared = session.prepare([request for _, request in requests])
                for key, ready in zip(keys, prepared, strict=True):
                    session.submit(key, ready)
            answers = session.collect()
            connection.send(("answers", asked_in, answers, astuple(session.usage)))
            session.usage = Usage()
    except (EOFError, OSError):
        pass
    except (UserError, StepFailed) as error:
        connection.send(("error", isinstance(error, UserError), str(error)))
    finally:
        sys.stdout.flush()


def _prompt(request: Request) -> bytes:
    """The scene that a request is about."""
    return next(turn["content"] for turn in request.conversation if turn["role"] == "user").encode()


def _devices(settings: EngineSettings) -> list[str | None]:
    """The GPUs of each worker, as CUDA_VISIBLE_DEVICES names them; None on a CPU."""
    import torch

    copies, shared, found = settings.data_parallel_size, settings.tensor_parallel_size, torch.cuda.device_count()
    if not found:
        return [None] * copies
    if copies * shared > found:
        raise UserError(
            f"data_parallel_size {copies} × tensor_parallel_size {shared} needs {copies * shared} GPUs and there are "
            f"{found}: lower one of them"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(found)]
    return [",".join(names[shared * number : shared * (number + 1)]) for number in range(copies)]


def _cause(process: Any) -> str:
    code = process.exitcode
    return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
