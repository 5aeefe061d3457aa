#!/bin/sh
# Run by exitcheck.sh before the machine goes down: put your own commands here.
