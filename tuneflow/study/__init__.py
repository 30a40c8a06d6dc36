"""The study: the loop that ties searcher, scheduler, executor and store together."""
