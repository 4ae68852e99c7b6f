"""Comparing codecs by real files: metrics, standard codecs as anchors, curves, BD-rates, plots and a report.

sequences, presets      what is compared, and under which protocol
codecs                  the interface of all codecs, and the codecs by name
jobs, runner            one point of a curve; many of them, over processes or a cluster, that go on when stopped
metrics, bd_rate        the figures
results, plots, report, html_report     what is made of them
main                    the command, eval_video.py
"""
