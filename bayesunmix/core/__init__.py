"""What every layer uses, and what knows nothing of maps: errors, progress and log, files that are whole or not there.

errors, severity (sentences that speak against a result)      progress, log: what a run says while it works
whole_file, output_folder, checkpoint, parts: what is on disk, whole, whatever stops the run
shares, credible, rounding: arithmetic of shares and intervals     memory, threads: limits of the machine
processes, supervision: one run in several processes
attached: parts of a public object that live in a layer above
"""
