# SPDX-License-Identifier: Apache-2.0
"""Train models for two steps, as the job of a suite, twice. argv has a JSON list of {"name", "parameters"}.

Print the losses of both trainings for each, as exact numbers in JSON.
"""

from __future__ import print_function

import json, os, shutil, sys, tempfile, threading, time
from guest import train
from guest.job import Job

def losses(model):
    folder = tempfile.mkdtemp()
    try:
        with open(os.path.join(folder, "job.json"), "w") as f:
            json.dump({"seed": 7, "threads": 1, "model": dict(model["parameters"], name=model["name"])}, f)
        job = Job(folder)
        graph = train.build(job.work)
        host = threading.Thread(target=order, args=[folder])
        host.start()
        job.wait_for_order()
        host.join()
        train.train(job, graph)
        graph[0].reset_default_graph()
        with open(os.path.join(folder, "steps.jsonl")) as f:
            return [record["loss"] for record in map(json.loads, f) if "loss" in record]
    finally:
        shutil.rmtree(folder)

def order(folder):
    while not os.path.exists(os.path.join(folder, "waiting")):
        time.sleep(0.01)
    with open(os.path.join(folder, "barrier"), "w") as barrier:
        json.dump({"steps": 1, "warmup": 1}, barrier)

for model in json.loads(sys.argv[1]):
    print(json.dumps([losses(model), losses(model)]))
    sys.stdout.flush()
