"""Judges a submission as a stranger would: every file is data, and nothing that one says is believed without another.

findings     what a rule and a finding are
rulebook     every rule, with its source
sight        looking at files that may be anything
loadgen      LoadGen's logs, read as streams
case         one result, and what the round says of it
detail       what every detail log must say
figures      figures that follow from each other
summary      a summary beside its detail log
performance  a performance test
accuracy     an accuracy run
power        power that was measured
audits       the audits
measured     measurements, user.conf, README.md
described    systems
result       all of one result
survey       what a tree holds
whole        the tree, judged by all cores
"""
