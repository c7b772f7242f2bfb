defmodule MyAppWeb.Pow.Mailer do
  @moduledoc "Writes mails to the log instead of sending them."
  use Pow.Phoenix.Mailer

  require Logger

  @impl true
  def cast(mail), do: mail

  @impl true
  def process(mail), do: Logger.info("Mail to #{mail.user.email}: #{mail.text}")
end
