"""Steps of a task as the loop takes them, without the loop."""

from torch.utils.data import default_collate


def batch_of(task, n=2):
    """The first items of a task's data set."""
    dataset = task.dataset()
    return default_collate([dataset[k] for k in range(n)])


def learn(task, modules, batch, steps):
    """What each optimiser lowered, by step."""
    optimisers, seen = task.optimisers(modules), []
    for step in range(steps):
        totals = {}
        for name, total, _ in task.losses(modules, batch, step):
            optimisers[name].zero_grad()
            total.backward()
            optimisers[name].step()
            totals[name] = float(total.detach())
        seen.append(totals)
    return seen
