"""Pages to look at: report.html of a run or an evaluation, the comparison of several runs, and their pictures."""
