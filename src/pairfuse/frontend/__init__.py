"""What users meet: symbolic tensors, their operations and reductions, derivatives for torch.

In processing order: variables (data to formulas), base (formulas and data), space (sizes), methods and vectors
(operations), calculus (derivatives as formulas), symbolic (variables without data), reductions and linear (what
computes), deferred (now or later), reduce and evaluate (the way to the driver), autograd, passes and selected
(derivatives), lazytensor (the class), public (the functions beside it), language and genred (formulas in text);
messages and options serve all of them.
"""
