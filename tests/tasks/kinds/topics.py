"""A user's own kind of task: any number of labels for a text, yes or no for each."""

from __future__ import annotations

from dataclasses import replace

from icl.tasks.kinds import Kind, Metric, Question, Target, value_at


class Topics(Kind):
    """An answer is the labels that hold, sorted, with blanks between."""

    yes: str = "yes"
    no: str = "no"

    def target(self, row, columns, task):
        return Target(" ".join(sorted(map(task.find, value_at(row, columns.label)))))

    def shows(self, labels):
        return ("topic",)

    def space(self, labels):
        return replace(labels, names=("yes", "no"), words=(self.yes, self.no))

    def questions(self, example, labels):
        right = example.label.split()
        return [
            Question({**example.fields, "topic": word}, "yes" if name in right else "no")
            for name, word in zip(labels.names, labels.words, strict=True)
        ]

    def settle(self, answers, labels):
        named = zip(labels.names, answers, strict=True)
        return " ".join(sorted(name for name, (yes, no) in named if yes > no))

    def measures(self, labels):
        def each(answer: str, right: str) -> float:
            return 1 - len(set(answer.split()) ^ set(right.split())) / len(labels)

        return {
            "all_right": Metric(lambda a, right: float(a == right), 0.5 ** len(labels)),
            "each_right": Metric(each, 0.5),
        }
