"""The research questions of the paper, answered from what a run recorded."""

from fedcircuit.analysis.questions.answers import over_rounds, research_questions

__all__ = [
    "over_rounds",
    "research_questions",
]
