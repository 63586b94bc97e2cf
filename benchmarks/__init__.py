"""The benchmark suite: Pairfuse beside its peers, in one run, on the machine at hand.

In reading order:

    cases       what is measured: a table of cases
    data        the arrays of a case, the same in every process
    formulas    each case written with LazyTensors: one text for Pairfuse and for PyKeOps
    dense       the same in eager PyTorch
    classical   the same with SciPy and scikit-learn, where they have it
    exact       the same in float64 NumPy, on a few rows: what the others are compared to
    worker      one process, one engine: holds the data of a case and runs it when told to
    measure     runs the workers in turns and takes medians
    peak        how many fused multiply-adds per second this machine does
    startup     first calls in fresh processes
    memory      the memory of one large reduction
    report      tables for the terminal, JSON and Markdown for the folder ``results``
"""
