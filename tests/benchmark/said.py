"""Predictions of keypoints and boxes as trackers write them, for the tests of tasks."""

from types import SimpleNamespace

from vidtrack.benchmark.predictions import Writer


def predict(item, folder, labels):
    """Write what a tracker says: `labels(given, frame number)`."""
    (run,) = item.runs()
    writer = Writer(folder / item.name, run)
    for index in range(run.start, run.end):
        given = run.annotations[run.start]
        writer.put(SimpleNamespace(index=index, name=f"{index:05d}", labels=labels(given, index)))
    writer.close()
    return folder / item.name


def scores_of(task, folder, labels):
    records = {item.name: item.score(predict(item, folder, labels(item))) for item in task.items}
    return task.summarize(records), records


def copied(item):
    return lambda given, index: given


def perfect(item):
    return lambda given, index: item.truth(index) or given
